"""Recorded data sets on disk, as the paper's authors lay them out after extraction.

    DIR/annotation/*.json                             one file per split, its name says which
        extraction/vivit_frames/ID/frame_0001.jpg ... frames of a video, in order
        extraction/ast_audio/ID.wav                   its sound

Frames and sound are read with the device's own decoder (:mod:`device_agent.media.clip`): what training sees
is what a device would take out of the same file.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from device_agent.errors import MediaError
from device_agent.media.clip import MediaSpec
from device_agent.media.limits import MediaLimits
from device_agent.media.loading import clip_from_file
from edge_server.data.faults import Fault, RowReport
from edge_server.errors import DatasetError

FRAMES = Path("extraction", "vivit_frames")
SOUND = Path("extraction", "ast_audio")
ANNOTATION = "annotation"
#: Identifiers are file names: nothing that could lead out of the data set's folder.
_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")

Videos: TypeAlias = Literal["all", "real", "fake"]
"""Of MUSIC-AVQA: all, those that were recorded, those that were composed of others."""
_SOME_VIDEOS = {"real", "fake"}

Survey = Callable[["MediaFolder", Sequence[str]], Mapping[str, Fault]]
"""Says which clips of a folder cannot be used, and why."""


@dataclass(frozen=True)
class MediaFolder:
    """Frames and sound of a data set.

    Attributes:
        folder: the data set's.
        frames: how many frames of a clip are read, evenly spaced over all there are.
        spec: rate and window of the sound; largest side of a frame.
        limits: what decoding one file may cost.
    """

    folder: Path
    frames: int
    spec: MediaSpec = field(default_factory=MediaSpec)
    limits: MediaLimits = field(default_factory=MediaLimits)

    def frame_files(self, video_id: str) -> list[Path]:
        """The frames that are read, in order; empty where a clip has none."""
        files = sorted((self.folder / FRAMES / video_id).glob("frame_*.jpg"))
        if len(files) <= self.frames:
            return files
        # The frames that the visual encoder's front end picks from the whole clip.
        return [files[(2 * i + 1) * len(files) // (2 * self.frames)] for i in range(self.frames)]

    def sound_file(self, video_id: str) -> Path:
        """Where a clip's sound is, or would be."""
        return self.folder / SOUND / f"{video_id}.wav"

    def read_frames(self, video_id: str) -> npt.NDArray[np.uint8]:
        """Frames of a clip, uint8 RGB, [F, H, W, 3], F at most ``frames``.

        Raises:
            MediaError: one cannot be read, there is none, or they differ in size.
        """
        read = [self._frame(path) for path in self.frame_files(video_id)]
        if not read:
            raise MediaError(str(self.folder / FRAMES / video_id), "holds no frame_*.jpg")
        sizes = {frame.shape for frame in read}
        if len(sizes) > 1:
            raise MediaError(str(self.folder / FRAMES / video_id), f"holds frames of sizes {sorted(sizes)}")
        return np.stack(read)

    def read_sound(self, video_id: str) -> npt.NDArray[np.float32]:
        """Sound of a clip, float32 in [-1, 1], [S], the first ``spec.window_s`` of it.

        Raises:
            MediaError: it cannot be read, or is not there.
        """
        clip = clip_from_file(self.sound_file(video_id), kind="audio", spec=self.spec, limits=self.limits)
        assert clip.pcm_S is not None  # noqa: S101 - of that kind
        return clip.pcm_S

    def fault(self, video_id: str) -> Fault | None:
        """What is wrong with a clip's files; reads all that training will read."""
        if not self.frame_files(video_id):
            return "missing frames"
        if not self.sound_file(video_id).is_file():
            return "missing sound"
        try:
            self.read_frames(video_id)
        except MediaError:
            return "unreadable frames"
        try:
            self.read_sound(video_id)
        except MediaError:
            return "unreadable sound"
        return None

    def _frame(self, path: Path) -> npt.NDArray[np.uint8]:
        clip = clip_from_file(path, kind="image", spec=self.spec, limits=self.limits)
        assert clip.frames_THWC is not None  # noqa: S101 - of that kind
        return np.asarray(clip.frames_THWC[0])


def survey(
    media: MediaFolder,
    video_ids: Sequence[str],
    threads: int = 1,
    advance: Callable[[int], None] = lambda done: None,
) -> dict[str, Fault]:
    """Read every file of some clips once; returns the faults of those that cannot be used.

    Args:
        media: the folder.
        video_ids: which clips.
        threads: files that are decoded at once.
        advance: called with the number of clips read since the last call.
    """
    faults: dict[str, Fault] = {}
    with ThreadPoolExecutor(threads) as pool:
        for video_id, fault in zip(video_ids, pool.map(media.fault, video_ids), strict=True):
            if fault is not None:
                faults[video_id] = fault
            advance(1)
    return faults


def has_split(folder: Path, split: str, videos: Videos = "all") -> bool:
    """Whether the name of an annotation file says a split, of some of the videos."""
    return bool(_files_of(folder, split, videos))


def annotation_rows(folder: Path, split: str, videos: Videos = "all") -> list[Any]:
    """The rows of a split's annotation file.

    Args:
        folder: the data set's.
        split: a word of the file's name (``avqa-train.json``, ``desc_train.json``).
        videos: which of them; beside ``avqa-test.json`` the authors have ``avqa-test_real.json`` and
            ``avqa-test_fake.json`` of recorded and of composed videos alone.

    Raises:
        DatasetError: there is no such file, or more than one, or it is no JSON array.
    """
    found = _files_of(folder, split, videos)
    if len(found) != 1:
        names = ", ".join(path.name for path in _annotation_files(folder)) or "no *.json"
        words = repr(split) if videos == "all" else f"{split!r} and {videos!r}"
        raise DatasetError(
            f"{folder / ANNOTATION}: one file whose name says {words} is needed, found {names}"
        )
    try:
        rows = json.loads(found[0].read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{found[0]}: cannot be read: {error}") from error
    if not isinstance(rows, list) or not rows:
        raise DatasetError(f"{found[0]}: a JSON array of rows is needed")
    return rows


def _annotation_files(folder: Path) -> list[Path]:
    return sorted((folder / ANNOTATION).glob("*.json"))


def _files_of(folder: Path, split: str, videos: Videos) -> list[Path]:
    """The files whose names say the split, and which videos, where not all."""
    found = []
    for path in _annotation_files(folder):
        words = set(re.split(r"[^A-Za-z0-9]+", path.stem))
        if split in words and words & _SOME_VIDEOS == {videos} & _SOME_VIDEOS:
            found.append(path)
    return found


def text_of(row: object, *keys: str) -> str:
    """The text under the first of some keys that a row has.

    Raises:
        ValueError: the row has none of them, or what it has is blank or no text.
    """
    if not isinstance(row, dict):
        raise ValueError(f"is {type(row).__name__}, not an object")
    for key in keys:
        if key in row:
            value = row[key]
            if not isinstance(value, str) or not value.strip():
                raise ValueError(f"{key}: {value!r}; text is needed")
            return value.strip()
    raise ValueError(f"{keys[0]} is missing")


def plain(text: str) -> str:
    """Text as a keyboard types it: full-width letters and punctuation narrowed, underscores as spaces.

    Annotators have both: ``Where is it？``, ``more_than_ten``. Narrowing is Unicode's NFKC (UAX 15).
    """
    return " ".join(unicodedata.normalize("NFKC", text).replace("_", " ").split())


def video_id_of(row: object) -> str:
    """The ``video_id`` of a row; MUSIC-AVQA's may be written as a number.

    Raises:
        ValueError: there is none, or it is no file name.
    """
    if isinstance(row, dict) and isinstance(row.get("video_id"), int):
        row = row | {"video_id": str(row["video_id"])}
    name = text_of(row, "video_id")
    if not _ID.fullmatch(name):
        raise ValueError(f"video_id: {name!r} is no file name")
    return name


def list_of(row: object, key: str) -> list[str]:
    """A list of texts that is written as JSON within a text.

    Raises:
        ValueError: it is missing, or no such list.
    """
    found = json.loads(text_of(row, key))
    if not isinstance(found, list) or not all(isinstance(value, str) for value in found):
        raise ValueError(f"{key}: a JSON list of texts is needed, not {found!r}")
    return found


def name_of(row: object, number: int) -> str:
    """What to call a row in a report: its number, from 1, and its video where it has one."""
    try:
        return f"row {number} ({video_id_of(row)})"
    except ValueError:
        return f"row {number}"


def usable(
    media: MediaFolder,
    rows: Sequence[tuple[str, str]],
    report: RowReport,
    look: Survey,
) -> dict[str, int]:
    """Index of each clip whose files can be read; rows of the others are counted as bad.

    Args:
        media: the folder.
        rows: video id and name of every row that is well formed.
        report: takes the bad ones.
        look: says which clips cannot be used.
    """
    ids = list(dict.fromkeys(video_id for video_id, _ in rows))
    faults = look(media, ids)
    for video_id, name in rows:
        if video_id in faults:
            report.add(faults[video_id], name)
    return {video_id: i for i, video_id in enumerate(v for v in ids if v not in faults)}
