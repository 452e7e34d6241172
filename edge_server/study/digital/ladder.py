"""What the source codecs make of a split's clips at every setting: sizes, and encoder tokens of what is left.

DIR/SLOT/ladder.json          how many clips, which encoders
         STEP.bits.npy        size of each clip [bits]
         STEP.features.npy    encoder tokens of what is decoded
         STEP.errors.npy      their mean square distance from those of the clip itself

Shapes: S steps, N clips, P encoder tokens, D width.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from rich.progress import track

from edge_server.data.soundstage.dataset import Split
from edge_server.errors import ConfigurationError
from edge_server.model.config import VisualFormat
from edge_server.model.link import Link
from edge_server.model.modality import SLOTS
from edge_server.model.preprocess import VisualFrontEnd
from edge_server.study.digital.media import (
    JPEG_STEPS,
    OPUS_STEPS,
    JpegStep,
    OpusStep,
    through_jpeg,
    through_opus,
)
from edge_server.study.digital.movie import MP4_STEPS, Movie, Mp4Step
from edge_server.training.clips import encode_media
from edge_server.training.modality import TRAINING

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]
Media: TypeAlias = npt.NDArray[Any]
"""Frames, uint8 [N, F, H, W, 3], or sound, int16 [N, S]."""
_PARTS = ("bits", "features", "errors")
_BATCH = 32
_MOVIE_CHUNK = 20


@dataclass(frozen=True)
class Ladder:
    """A modality's clips at every step of a codec.

    Attributes:
        slot: ``visual`` or ``audio``.
        names: of the steps, [S].
        bits_SN: sizes, int64 [bits].
        features: encoder tokens of what is decoded, per step, float16, [N, P, D].
        worth_S: how good each step is: where several fit, the one of the highest worth is sent. As built, it
            is minus the mean square error of the encoder tokens over their variance; :meth:`ranked` replaces
            it, with accuracies for instance. A step worth minus infinity is never sent: less is known from
            it than from nothing.
    """

    slot: str
    names: tuple[str, ...]
    bits_SN: npt.NDArray[np.int64]
    features: tuple[npt.NDArray[np.float16], ...]
    worth_S: npt.NDArray[np.float64]

    @property
    def clips(self) -> int:
        """Clips N."""
        return int(self.bits_SN.shape[1])

    def ranked(self, worth_S: npt.ArrayLike) -> Ladder:
        """The same with another order of its steps, by rising worth."""
        worth = np.asarray(worth_S, np.float64)
        if worth.shape != (len(self.names),):
            raise ConfigurationError(f"worth_S has shape {worth.shape}; one per step, {len(self.names)}")
        return replace(self, worth_S=worth)

    def best(self, bits: int) -> npt.NDArray[np.int64]:
        """For each clip the best step that fits into so many bits, [N]; -1 where none does."""
        worth_SN = np.where(self.bits_SN <= bits, self.worth_S[:, None], -np.inf)
        return np.where(np.isfinite(worth_SN.max(axis=0)), worth_SN.argmax(axis=0), -1)


def build_ladder(
    link: Link,
    slot: str,
    split: Split,
    directory: Path,
    steps: Sequence[JpegStep] | Sequence[OpusStep] | None = None,
    clips: int | None = None,
) -> Ladder:
    """Run a split through a codec and the encoder, under a progress bar, or go on where an earlier run ended.

    Args:
        link: whose frozen encoder to use; links that share their encoders share the folder.
        slot: ``visual`` (JPEG) or ``audio`` (Opus).
        directory: where results are kept; the slot gets a folder in it.
        steps: settings of the codec; None for all.
        clips: only the first so many; None for all.

    Raises:
        ConfigurationError: the folder holds the same of other clips or encoders.
    """
    media: Media = TRAINING[slot].media(split)[:clips]
    chosen = steps or (JPEG_STEPS if slot == "visual" else OPUS_STEPS)
    folder = directory / slot
    _check_folder(folder, link, [slot], len(media))
    intact = _kept(folder, "intact", ("features",), partial(_encode, link, slot, media))["features"]
    parts = [
        _kept(folder, step.name, _PARTS, partial(_through, link, slot, media, intact, step))
        for step in chosen
    ]
    return _ladder(slot, [step.name for step in chosen], parts, intact)


def build_movie_ladders(
    link: Link,
    split: Split,
    directory: Path,
    steps: Sequence[Mp4Step] = MP4_STEPS,
    clips: int | None = None,
) -> dict[str, Ladder]:
    """The same for clips sent as MP4 files, rendered again at full size: a ladder per slot.

    The sizes of both are those of the whole file.

    Raises:
        ConfigurationError: the folder holds the same of other clips or encoders.
        DatasetError: artwork, soundfont or voice are not installed.
    """
    scenes = split.scenes[:clips]
    folder = directory / "movie"
    names = [step.name for step in steps]
    _check_folder(folder, link, tuple(SLOTS), len(scenes), names)
    format = link.config.visual.format
    assert isinstance(format, VisualFormat)  # noqa: S101 - the encoders that Soundstage trains
    front_end = VisualFrontEnd(format)
    assert link.config.audio is not None  # noqa: S101 - likewise
    samples = link.config.audio.format.samples

    def chunk(begin: int) -> Arrays:
        movies = [Movie(scene, front_end, samples) for scene in scenes[begin : begin + _MOVIE_CHUNK]]
        sent = [[movie.through_mp4(step) for movie in movies] for step in steps]
        found: Arrays = {"bits": np.array([[bits for bits, _, _ in row] for row in sent], np.int64)}
        for index, slot in enumerate(SLOTS, start=1):
            decoded: list[list[Media]] = [[np.asarray(result[index]) for result in row] for row in sent]
            found[slot] = np.stack([_features(link, slot, np.stack(row)) for row in decoded])
        return found

    chunks = [
        _kept(folder, f"clips-{begin:06d}", ("bits", *SLOTS), partial(chunk, begin))
        for begin in track(range(0, len(scenes), _MOVIE_CHUNK), description="clips as MP4")
    ]
    bits_SN = np.concatenate([part["bits"] for part in chunks], axis=1)
    ladders = {}
    for slot in SLOTS:
        media: Media = TRAINING[slot].media(split)[:clips]
        intact = _kept(folder, f"intact-{slot}", ("features",), partial(_encode, link, slot, media))
        truth = intact["features"]
        features = np.concatenate([part[slot] for part in chunks], axis=1)
        parts = [
            {"bits": bits, "features": tokens, "errors": _errors(tokens, truth)}
            for bits, tokens in zip(bits_SN, features, strict=True)
        ]
        ladders[slot] = _ladder(slot, names, parts, truth)
    return ladders


def _through(
    link: Link, slot: str, media: Media, intact: npt.NDArray[np.float16], step: JpegStep | OpusStep
) -> Arrays:
    bits, batches = [], []
    for batch in _batches(media, step.name):
        sent = [
            through_jpeg(clip, step) if isinstance(step, JpegStep) else through_opus(clip, step)
            for clip in batch
        ]
        bits += [size for size, _ in sent]
        batches.append(_features(link, slot, np.stack([np.asarray(clip) for _, clip in sent])))
    features = np.concatenate(batches)
    return {"bits": np.array(bits, np.int64), "features": features, "errors": _errors(features, intact)}


def _encode(link: Link, slot: str, media: Media) -> Arrays:
    batches = _batches(media, f"{slot} as it is")
    return {"features": np.concatenate([_features(link, slot, batch) for batch in batches])}


def _batches(media: Media, note: str) -> Iterator[Media]:
    for begin in track(range(0, len(media), _BATCH), description=note):
        yield np.asarray(media[begin : begin + _BATCH])


def _features(link: Link, slot: str, media: Media) -> npt.NDArray[np.float16]:
    return np.asarray(encode_media(link, slot, media).numpy(), np.float16)


def _errors(features: npt.NDArray[np.float16], intact: npt.NDArray[np.float16]) -> npt.NDArray[np.float32]:
    """Mean square distance of each clip's encoder tokens from what they should be, [N]."""
    distance = features.astype(np.float32) - intact.astype(np.float32)
    return np.asarray(np.square(distance).mean(axis=(1, 2)), np.float32)


def _ladder(
    slot: str, names: Sequence[str], parts: Sequence[Arrays], intact: npt.NDArray[np.float16]
) -> Ladder:
    truth = intact.astype(np.float32)
    variance = float(np.square(truth - truth.mean(axis=(0, 1))).mean())
    return Ladder(
        slot=slot,
        names=tuple(names),
        bits_SN=np.stack([part["bits"] for part in parts]),
        features=tuple(part["features"] for part in parts),
        worth_S=-np.array([float(part["errors"].mean()) for part in parts]) / max(variance, 1e-12),
    )


def _kept(folder: Path, stem: str, names: Sequence[str], make: Callable[[], Arrays]) -> Arrays:
    """Arrays on disk, mapped; made and written first where one is not there."""
    paths = {name: folder / f"{stem}.{name}.npy" for name in names}
    if not all(path.exists() for path in paths.values()):
        made = make()
        for name, path in paths.items():
            unfinished = path.with_suffix(".partial")
            with unfinished.open("wb") as file:
                np.save(file, made[name])
            unfinished.replace(path)
    return {name: np.load(path, mmap_mode="r") for name, path in paths.items()}


def _check_folder(
    folder: Path, link: Link, slots: Sequence[str], clips: int, steps: Sequence[str] = ()
) -> None:
    """Make the folder, or see that what it holds is of the same clips and encoders."""
    digest = hashlib.sha256()
    for slot in slots:
        for name, tensor in sorted(link.encoder(slot).state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().numpy().tobytes())
    wanted = {"clips": clips, "encoders": digest.hexdigest(), "steps": list(steps)}
    path = folder / "ladder.json"
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text(json.dumps(wanted, indent=2) + "\n")
        return
    found = json.loads(path.read_text())
    for field, value in wanted.items():
        if found.get(field) != value:
            raise ConfigurationError(
                f"{path}: {field} is {found.get(field)!r}, asked for {value!r}; take another folder"
            )
