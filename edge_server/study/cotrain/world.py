"""Six devices with worlds of their own: clips behind frozen encoders, questions with answers, and tests.

Soundstage train ─▶ 100 clips each, one question each, shifted ─▶ features ─▶ examples of a device
Soundstage train ─▶ further clips, as they are ─▶ features ─▶ what the edge rehearses
Soundstage test  ─▶ the same clips for all, as they are and under each shift ─▶ features ─▶ tests
Soundstage val   ─▶ likewise, to choose settings by
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.progress import track

from device_agent.cotrain.examples import Asked, Examples, LabelledClip
from device_agent.cotrain.features import ClipFeatures
from device_agent.cotrain.questions_file import OwnClip
from edge_server.cotrain.rehearsal import some_clips
from edge_server.data.annotations import questions_by_clip
from edge_server.data.soundstage.dataset import Split, SplitName, load_split
from edge_server.errors import DatasetError
from edge_server.model import tokenizer as tk
from edge_server.model.link import Link
from edge_server.model.modality import MODALITIES
from edge_server.study.cotrain.shifts import SHIFTS, Shift
from edge_server.training.clips import EncodedClips, encode_clips, encode_media
from edge_server.training.modality import TRAINING
from edge_server.training.soundstage import SoundstageSplit
from edge_server.training.split import TrainingSplit

Features = Mapping[str, npt.NDArray[np.float32]]
"""Of some clips, by slot, [N, P, D]."""
UNSHIFTED = "as in training"
_ENCODED_AT_ONCE = 16
_MAX_ASKED = 8
_HELD_OUT_OF = 10
"""One of so many examples is held out by the device itself."""


@dataclass(frozen=True)
class World:
    """What one device sees.

    Attributes:
        name: of its shift.
        features: of all its clips.
        examples: what it brings; clip ``i`` is file ``i``.
    """

    name: str
    features: Features
    examples: Examples

    def of(self, clip: OwnClip) -> ClipFeatures:
        """A clip's features."""
        row = int(clip.files[0])
        return ClipFeatures(
            {slot: x[row] for slot, x in self.features.items()},
            {slot: MODALITIES[slot].of_clip for slot in self.features},
        )


@dataclass(frozen=True)
class Unseen:
    """Clips that nobody learns from.

    Attributes:
        features: of each world, unshifted too.
        asked: questions of each clip.
    """

    features: Mapping[str, Features]
    asked: tuple[tuple[Asked, ...], ...]


@dataclass(frozen=True)
class Worlds:
    """Everything that a study asks and teaches.

    Attributes:
        devices: each with what it learns from.
        test: what is asked.
        rehearsed: clips of the unshifted world that nobody else has; None: there are none.
    """

    devices: tuple[World, ...]
    test: Unseen
    rehearsed: EncodedClips[TrainingSplit] | None = None


def load_worlds(
    link: Link,
    data: Path,
    cache: Path,
    clips: int,
    test_clips: int,
    rehearsed_clips: int,
    asked_of: SplitName = "test",
) -> Worlds:
    """Make all worlds, or read what an earlier call left.

    Args:
        link: whose encoders.
        data: Soundstage data set with splits train and ``asked_of``.
        cache: folder for features.
        clips: of each device.
        test_clips: for all.
        rehearsed_clips: for the edge.
        asked_of: the split that is asked.

    Raises:
        DatasetError: a split is missing, or has too few clips.
    """
    train, test = load_split(data, "train"), load_split(data, asked_of)
    learned = clips * len(SHIFTS)
    for split, needed in ((train, learned + rehearsed_clips), (test, test_clips)):
        if len(split.scenes) < needed:
            raise DatasetError(f"{data}: {len(split.scenes)} clips; {needed} are needed")
    devices = []
    for index, (name, shift) in enumerate(SHIFTS.items()):
        rows = range(index * clips, (index + 1) * clips)
        features = _features(link, train, rows, shift, cache / f"train-{name}-{clips}.npz")
        devices.append(World(name, features, _examples(link, train, rows, index)))
    shifted: dict[str, Features] = {}
    worlds: dict[str, Shift | None] = {UNSHIFTED: None, **SHIFTS}
    for name, way in worlds.items():
        path = cache / f"{asked_of}-{name}-{test_clips}.npz"
        shifted[name] = _features(link, test, range(test_clips), way, path)
    asked = tuple(
        tuple(_asked(link, question.text, question.answer) for question in of_clip[:_MAX_ASKED])
        for of_clip in questions_by_clip(test.questions, test_clips)
    )
    old = SoundstageSplit(some_clips(train, learned, learned + rehearsed_clips))
    rehearsed: EncodedClips[TrainingSplit] = encode_clips(
        link, old, cache / f"rehearsed-{learned}-{rehearsed_clips}", "clips to rehearse"
    )
    return Worlds(tuple(devices), Unseen(shifted, asked), rehearsed)


def _asked(link: Link, question: str, answer: str) -> Asked:
    return Asked(tuple(tk.encode(link.tokenizer, question)), tuple(tk.encode(link.tokenizer, answer)))


def _examples(link: Link, split: Split, rows: range, device: int) -> Examples:
    """One question of each clip, drawn."""
    rng = np.random.default_rng([17, device])
    by_clip = questions_by_clip(split.questions, rows.stop)
    labelled = []
    for place, row in enumerate(rows):
        if by_clip[row]:
            question = by_clip[row][int(rng.integers(len(by_clip[row])))]
            asked = _asked(link, question.text, question.answer)
            labelled.append(LabelledClip(OwnClip((str(place),), 0.0), (asked,)))
    held = tuple(labelled[::_HELD_OUT_OF])
    return Examples(tuple(each for each in labelled if each not in held), held)


def _features(link: Link, split: Split, rows: range, shift: Shift | None, path: Path) -> Features:
    if path.exists():
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name].astype(np.float32) for name in file.files}
    frames, sound = split.frames[rows.start : rows.stop], split.pcm[rows.start : rows.stop]
    if shift is not None:
        pairs = [_shifted(shift, frames[i], sound[i], rows.start + i) for i in range(len(rows))]
        frames, sound = np.stack([a for a, _ in pairs]), np.stack([b for _, b in pairs])
    media: dict[int, npt.NDArray[Any]] = {id(split.frames): frames, id(split.pcm): sound}
    found = {}
    for slot in link.slots:
        inputs = media[id(TRAINING[slot].media(split))]
        batches = range(0, len(rows), _ENCODED_AT_ONCE)
        parts = [
            encode_media(link, slot, inputs[begin : begin + _ENCODED_AT_ONCE]).numpy()
            for begin in track(batches, description=f"encode {path.stem} {slot}", transient=True)
        ]
        found[slot] = np.concatenate(parts).astype(np.float16).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    halves: dict[str, npt.NDArray[np.float16]] = {slot: x.astype(np.float16) for slot, x in found.items()}
    with path.open("wb") as file:
        np.savez(file, **halves)  # type: ignore[arg-type]
    return found


def _shifted(
    shift: Shift, frames: npt.NDArray[np.uint8], pcm: npt.NDArray[np.int16], clip: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int16]]:
    rng = np.random.default_rng([23, clip])
    seen, heard = shift(np.asarray(frames), pcm.astype(np.float32) / 32768.0, rng, 16_000)
    return seen, np.clip(np.rint(heard * 32768.0), -32768, 32767).astype(np.int16)
