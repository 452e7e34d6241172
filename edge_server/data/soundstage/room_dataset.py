"""Making a split of rooms, and reading it back: several devices around one stage.

DIR/SPLIT/frames.npy      uint8  [N, 3, F, H, W, 3]  front, left, earlier; as the encoder takes them
          sound.npy       int16  [N, 2, S]           left and right microphone, mono, 16 kHz
          rooms.json      what each device sees or hears, room by room
          questions.json  questions that need two devices
          split.json      seed, sizes, version of this format, what making it took
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edge_server.data.soundstage import sound
from edge_server.data.soundstage.dataset import (
    SplitName,
    picked_frames,
    read_scene,
    render_in_chunks,
    split_rng,
)
from edge_server.data.soundstage.picture import render_frames
from edge_server.data.soundstage.room import PICTURES, SOUNDS, VIEWS, Room, ViewName, sample_room
from edge_server.data.soundstage.room_questions import RoomBalancer
from edge_server.errors import DatasetError
from edge_server.model.config import VisualFormat
from edge_server.model.preprocess import VisualFrontEnd

KIND = "rooms"
FORMAT_VERSION = 1
_CHUNK = 20
#: Apart from what the splits of clips draw.
_ROOMS, _QUESTIONS = 10, 11


@dataclass(frozen=True)
class RoomQuestionRow:
    """A question about a room of a split.

    Attributes:
        room: index of the room.
        type: which devices it is of, and the task.
        template: the question before its placeholders are filled.
        text: the question as asked.
        answer: the truth.
        needs: views that it cannot be answered without.
        ago: when the earlier picture was taken, in words.
    """

    room: int
    type: tuple[str, str]
    template: str
    text: str
    answer: str
    needs: tuple[ViewName, ...]
    ago: str


@dataclass(frozen=True)
class RoomSplit:
    """A split in memory; the arrays are mapped, not read.

    Attributes:
        frames: uint8, [N, pictures, F, H, W, 3], in the order of PICTURES.
        pcm: int16, [N, sounds, S], in the order of SOUNDS.
        rooms: what each device sees or hears.
        questions: which need two of them.
    """

    frames: npt.NDArray[np.uint8]
    pcm: npt.NDArray[np.int16]
    rooms: tuple[Room, ...]
    questions: tuple[RoomQuestionRow, ...]

    def media(self, view: ViewName) -> npt.NDArray[Any]:
        """What a device took of every room: frames, [N, F, H, W, 3], or sound, [N, S]."""
        if view in PICTURES:
            return self.frames[:, PICTURES.index(view)]
        return self.pcm[:, SOUNDS.index(view)]


def sample_rooms(split: SplitName, rooms: int, seed: int) -> tuple[Room, ...]:
    """The rooms of a split; a longer split of the same seed begins with the same rooms."""
    rng = split_rng(split, seed, _ROOMS)
    return tuple(sample_room(rng) for _ in range(rooms))


def generate_rooms(
    directory: Path,
    split: SplitName,
    rooms: int,
    seed: int,
    workers: int,
    advance: Callable[[int], None] = lambda done: None,
) -> None:
    """Make a split, on several cores.

    Args:
        directory: the data set's folder; the split gets a folder in it.
        split: splits of one seed share no room.
        rooms: how many.
        seed: everything follows from it.
        workers: processes that render.
        advance: called with the number of rooms finished since the last call.

    Raises:
        DatasetError: artwork, soundfont or voice are not there.
    """
    started_s = time.monotonic()
    folder = directory / split
    folder.mkdir(parents=True, exist_ok=True)
    sampled = sample_rooms(split, rooms, seed)
    _write_questions(folder, sampled, split_rng(split, seed, _QUESTIONS))
    told = [{view: asdict(room[view]) for view in VIEWS} for room in sampled]
    (folder / "rooms.json").write_text(json.dumps(told) + "\n")
    format = VisualFormat()
    shape = (rooms, len(PICTURES), format.frames, format.height, format.width, 3)
    np.lib.format.open_memmap(folder / "frames.npy", "w+", np.uint8, shape).flush()
    heard = (rooms, len(SOUNDS), sound.SAMPLES)
    np.lib.format.open_memmap(folder / "sound.npy", "w+", np.int16, heard).flush()
    render_in_chunks(partial(_render_chunk, folder), sampled, _CHUNK, workers, advance)
    summary = {
        "kind": KIND,
        "format": FORMAT_VERSION,
        "split": split,
        "rooms": rooms,
        "seed": seed,
        "workers": workers,
        "elapsed_s": round(time.monotonic() - started_s, 1),
    }
    (folder / "split.json").write_text(json.dumps(summary, indent=2) + "\n")


def load_rooms(directory: Path, split: SplitName) -> RoomSplit:
    """Open a split.

    Raises:
        DatasetError: it is not there, unfinished, or of another kind or format.
    """
    folder = directory / split
    try:
        summary = _read(folder / "split.json")
    except FileNotFoundError as error:
        raise DatasetError(
            f"{folder}: no finished split; make it with: edge-server dataset rooms --out {directory} "
            f"--split {split}"
        ) from error
    if summary.get("kind") != KIND or summary["format"] != FORMAT_VERSION:
        raise DatasetError(
            f"{folder}: {summary.get('kind', 'clips')} of format {summary['format']}; {KIND} of format "
            f"{FORMAT_VERSION} are needed"
        )
    return RoomSplit(
        frames=np.load(folder / "frames.npy", mmap_mode="r"),
        pcm=np.load(folder / "sound.npy", mmap_mode="r"),
        rooms=tuple(
            Room({view: read_scene(row[view]) for view in VIEWS}) for row in _read(folder / "rooms.json")
        ),
        questions=tuple(
            RoomQuestionRow(**{**row, "type": tuple(row["type"]), "needs": tuple(row["needs"])})
            for row in _read(folder / "questions.json")
        ),
    )


def _write_questions(folder: Path, rooms: Sequence[Room], rng: np.random.Generator) -> None:
    balancer = RoomBalancer()
    rows = [
        asdict(
            RoomQuestionRow(
                index,
                question.template.type,
                question.template.text,
                question.text,
                question.asked.answer,
                question.asked.needs,
                question.ago,
            )
        )
        for index, room in enumerate(rooms)
        for question in balancer.choose(room, rng)
    ]
    (folder / "questions.json").write_text(json.dumps(rows, indent=0) + "\n")


def _render_chunk(folder: Path, begin: int, rooms: Sequence[Room]) -> int:
    torch.set_num_threads(1)
    frames = np.load(folder / "frames.npy", mmap_mode="r+")
    pcm = np.load(folder / "sound.npy", mmap_mode="r+")
    front_end = VisualFrontEnd(VisualFormat())
    picked = picked_frames(frames.shape[2])
    for index, room in enumerate(rooms, begin):
        for number, view in enumerate(PICTURES):
            rendered = torch.from_numpy(render_frames(room[view], picked))
            frames[index, number] = front_end.resize(rendered).round().to(torch.uint8).numpy()
        for number, view in enumerate(SOUNDS):
            pcm[index, number] = sound.render_sound(room[view])
    frames.flush()
    pcm.flush()
    return len(rooms)


def _read(path: Path) -> Any:
    return json.loads(path.read_text())
