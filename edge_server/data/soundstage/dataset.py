"""Making a Soundstage split, and reading it back.

DIR/SPLIT/frames.npy      uint8  [N, F, H, W, 3]  as the visual encoder takes them
          sound.npy       int16  [N, S]           mono, 16 kHz
          scenes.json     what is on stage, clip by clip
          questions.json  MUSIC-AVQA's keys
          captions.json   VALOR's keys, and what can be seen and heard alone
          split.json      seed, sizes, version of this format, what making it took
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
import numpy.typing as npt
import torch

from device_agent.cotrain.questions_file import SplitName as SplitName
from edge_server.data.annotations import Caption, QuestionRow, fill
from edge_server.data.soundstage import picture, sound
from edge_server.data.soundstage.captions import describe, describe_picture, describe_sound
from edge_server.data.soundstage.combinations import COMBINATIONS, CombinationsName
from edge_server.data.soundstage.questions import Balancer
from edge_server.data.soundstage.scene import Performer, Scene, Sound, sample_scene
from edge_server.errors import DatasetError
from edge_server.model.config import VisualFormat
from edge_server.model.preprocess import VisualFrontEnd

FORMAT_VERSION = 1
Item = TypeVar("Item")

_CHUNK = 50


@dataclass(frozen=True)
class Split:
    """A split in memory; the arrays are mapped, not read.

    Attributes:
        frames: uint8, [N, F, H, W, 3], resized to the visual encoder's input.
        pcm: int16, [N, S], mono at 16 kHz.
    """

    frames: npt.NDArray[np.uint8]
    pcm: npt.NDArray[np.int16]
    scenes: tuple[Scene, ...]
    questions: tuple[QuestionRow, ...]
    captions: tuple[Caption, ...]


def video_id(split: SplitName, index: int) -> str:
    """Name of a clip: unique over splits."""
    return f"soundstage_{split}_{index:06d}"


def sample_scenes(
    split: SplitName, clips: int, seed: int, combinations: CombinationsName = "all"
) -> tuple[Scene, ...]:
    """The scenes of a split; a longer split of the same seed begins with the same scenes.

    Args:
        split: splits of one seed share no scene.
        clips: how many.
        seed: everything follows from it.
        combinations: only scenes without combinations that are held out, or with one.
    """
    rng, fits = split_rng(split, seed, 0), COMBINATIONS[combinations]
    fitting = (scene for scene in iter(lambda: sample_scene(rng), None) if fits(scene))
    return tuple(itertools.islice(fitting, clips))


def generate(
    directory: Path,
    split: SplitName,
    clips: int,
    seed: int,
    workers: int,
    advance: Callable[[int], None] = lambda done: None,
    *,
    artwork: Path | None = None,
    soundfont: Path | None = None,
    combinations: CombinationsName = "all",
) -> None:
    """Make a split, on several cores.

    Args:
        directory: the data set's folder; the split gets a folder in it.
        workers: processes that render.
        advance: called with the number of clips finished since the last call.
        artwork: as for :func:`edge_server.data.soundstage.picture.render_frames`.
        soundfont: as for :func:`edge_server.data.soundstage.sound.render_sound`.
        combinations: as for :func:`sample_scenes`.

    Raises:
        DatasetError: artwork, soundfont or voice are not there.
    """
    started_s = time.monotonic()
    folder = directory / split
    folder.mkdir(parents=True, exist_ok=True)
    scenes = sample_scenes(split, clips, seed, combinations)
    _write_annotations(folder, split, scenes, seed)
    format = VisualFormat()
    frames_shape = (clips, format.frames, format.height, format.width, 3)
    np.lib.format.open_memmap(folder / "frames.npy", "w+", np.uint8, frames_shape).flush()
    np.lib.format.open_memmap(folder / "sound.npy", "w+", np.int16, (clips, sound.SAMPLES)).flush()
    render = partial(_render_chunk, folder, artwork, soundfont)
    render_in_chunks(render, scenes, _CHUNK, workers, advance)
    summary = {
        "format": FORMAT_VERSION,
        "split": split,
        "clips": clips,
        "seed": seed,
        "workers": workers,
        "artwork": "usual" if artwork is None else artwork.name,
        "soundfont": "usual" if soundfont is None else soundfont.name,
        "combinations": combinations,
        "elapsed_s": round(time.monotonic() - started_s, 1),
    }
    (folder / "split.json").write_text(json.dumps(summary, indent=2) + "\n")


def load_split(directory: Path, split: SplitName) -> Split:
    """Open a split.

    Raises:
        DatasetError: it is not there, unfinished, or of another format.
    """
    folder = directory / split
    try:
        summary = _read(folder / "split.json")
    except FileNotFoundError as error:
        raise DatasetError(
            f"{folder}: no finished split; make it with: "
            f"edge-server dataset soundstage --out {directory} --split {split}"
        ) from error
    if summary["format"] != FORMAT_VERSION:
        raise DatasetError(
            f"{folder}: format {summary['format']}, this version reads {FORMAT_VERSION}; make it again"
        )
    index = {video_id(split, i): i for i in range(summary["clips"])}
    return Split(
        frames=np.load(folder / "frames.npy", mmap_mode="r"),
        pcm=np.load(folder / "sound.npy", mmap_mode="r"),
        scenes=tuple(read_scene(row) for row in _read(folder / "scenes.json")),
        questions=tuple(
            QuestionRow(
                clip=index[row["video_id"]],
                type=tuple(json.loads(row["type"])),
                template=row["question_content"],
                text=fill(row["question_content"], json.loads(row["templ_values"])),
                answer=row["anser"],
            )
            for row in _read(folder / "questions.json")
        ),
        captions=tuple(
            Caption(row["desc"], row["picture_desc"], row["sound_desc"])
            for row in _read(folder / "captions.json")
        ),
    )


def split_rng(split: SplitName, seed: int, stream: int) -> np.random.Generator:
    """What a split draws from; each of its streams draws apart."""
    return np.random.default_rng([seed, get_args(SplitName).index(split), stream])


def _write_annotations(folder: Path, split: SplitName, scenes: Sequence[Scene], seed: int) -> None:
    rng = split_rng(split, seed, 1)
    balancer = Balancer()
    questions: list[dict[str, object]] = []
    captions = []
    for index, scene in enumerate(scenes):
        name = video_id(split, index)
        for question in balancer.choose(scene, rng):
            questions.append(question.to_music_avqa(name, len(questions)))
        captions.append(
            {
                "video_id": name,
                "desc": describe(scene, rng),
                "picture_desc": describe_picture(scene, rng),
                "sound_desc": describe_sound(scene, rng),
            }
        )
    for file, rows in (
        ("questions", questions),
        ("captions", captions),
        ("scenes", [asdict(s) for s in scenes]),
    ):
        (folder / f"{file}.json").write_text(json.dumps(rows, indent=0) + "\n")


def render_in_chunks(
    render: Callable[[int, Sequence[Item]], int],
    items: Sequence[Item],
    chunk: int,
    workers: int,
    advance: Callable[[int], None],
) -> None:
    """Render the scenes of a split on several cores.

    Args:
        render: a function of a module: given the index of the first, renders some; how many it rendered.
        items: all of them.
        chunk: how many at a time.
        workers: processes.
        advance: called with the number finished since the last call.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        begins = range(0, len(items), chunk)
        jobs = [pool.submit(render, begin, items[begin : begin + chunk]) for begin in begins]
        for job in jobs:
            advance(job.result())


def _render_chunk(
    folder: Path, artwork: Path | None, soundfont: Path | None, begin: int, scenes: Sequence[Scene]
) -> int:
    torch.set_num_threads(1)
    frames = np.load(folder / "frames.npy", mmap_mode="r+")
    pcm = np.load(folder / "sound.npy", mmap_mode="r+")
    front_end = VisualFrontEnd(VisualFormat())
    picked = picked_frames(frames.shape[1])
    for index, scene in enumerate(scenes, begin):
        rendered = torch.from_numpy(picture.render_frames(scene, picked, artwork))
        frames[index] = front_end.resize(rendered).round().to(torch.uint8).numpy()
        pcm[index] = sound.render_sound(scene, soundfont)
    frames.flush()
    pcm.flush()
    return len(scenes)


def picked_frames(count: int) -> list[int]:
    """The frames that the visual front end picks from a whole clip."""
    return [(2 * i + 1) * picture.FRAMES // (2 * count) for i in range(count)]


def read_scene(row: dict[str, Any]) -> Scene:
    """A scene as JSON told it."""
    return Scene(
        performers=tuple(Performer(**p) for p in row["performers"]),
        sounds=tuple(Sound(**s) for s in row["sounds"]),
        voice_over=row["voice_over"],
        seed=row["seed"],
    )


def _read(path: Path) -> Any:
    return json.loads(path.read_text())
