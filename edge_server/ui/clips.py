"""Clips that the playground asks about: those that ship with the server, and those that visitors upload.

Uploads lie in a scratch folder, bounded in number and bytes; the oldest goes first. They are served under
names that cannot be guessed, as media only: never as something that a browser would run.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from types import MappingProxyType

from edge_server.errors import ConfigurationError, InvalidQuestionError, QuestionTooLargeError
from protos.names import MediaModality

MEDIA_TYPES: Mapping[str, str] = MappingProxyType(
    {
        ".mp4": "video/mp4",
        ".m4v": "video/mp4",
        ".mov": "video/quicktime",
        ".webm": "video/webm",
        ".mkv": "video/x-matroska",
        ".avi": "video/x-msvideo",
        ".3gp": "video/3gpp",
        ".ts": "video/mp2t",
        ".mts": "video/mp2t",
        ".m2ts": "video/mp2t",
        ".mpg": "video/mpeg",
        ".mpeg": "video/mpeg",
        ".3g2": "video/3gpp2",
        ".flv": "video/x-flv",
        ".ogv": "video/ogg",
        ".png": "image/png",
        ".apng": "image/apng",
        ".jpg": "image/jpeg",
        ".jpeg": "image/jpeg",
        ".webp": "image/webp",
        ".gif": "image/gif",
        ".bmp": "image/bmp",
        ".heic": "image/heic",
        ".heif": "image/heif",
        ".avif": "image/avif",
        ".tif": "image/tiff",
        ".tiff": "image/tiff",
        ".ppm": "image/x-portable-pixmap",
        ".pgm": "image/x-portable-graymap",
        ".wav": "audio/wav",
        ".mp3": "audio/mpeg",
        ".m4a": "audio/mp4",
        ".aac": "audio/aac",
        ".flac": "audio/flac",
        ".ogg": "audio/ogg",
        ".opus": "audio/ogg",
        ".oga": "audio/ogg",
        ".aiff": "audio/aiff",
        ".aif": "audio/aiff",
        ".au": "audio/basic",
        ".caf": "audio/x-caf",
        ".amr": "audio/amr",
    }
)
"""What a browser is to play a file as, by the end of its name; what is in it, decoding finds out."""

_QUESTIONS = "questions.json"
_CLIPS = "clips"


@dataclass(frozen=True)
class Example:
    """A question that ships with a clip.

    Attributes:
        text: the question.
        truth: its answer; None: there is no list of right ones.
        kind: its type, such as ``"Audio-Visual Counting"``; empty: of none.
    """

    text: str
    truth: str | None
    kind: str


@dataclass(frozen=True)
class ClipFile:
    """A clip that can be asked about.

    Attributes:
        key: names it in a URL.
        name: shown to the visitor.
        path: the file.
        size_bytes: of the file.
        media_type: what it is served as.
        examples: questions that ship with it.
        model: name of the model that these are for; empty: any.
    """

    key: str
    name: str
    path: Path
    size_bytes: int
    media_type: str
    examples: tuple[Example, ...] = ()
    model: str = ""

    @property
    def modality(self) -> MediaModality:
        """What it is shown as."""
        match self.media_type.partition("/")[0]:
            case "image":
                return "image"
            case "audio":
                return "audio"
            case _:
                return "video"


def shipped_clips(folder: Path, model: str = "") -> tuple[ClipFile, ...]:
    """The clips of a demo folder, each with its questions: ``clips/``, in the order of ``questions.json``.

    Args:
        folder: of the demo.
        model: name of the model that it is for; empty: any.

    Raises:
        ConfigurationError: the folder is there but cannot be read.
    """
    listed = folder / _QUESTIONS
    try:
        rows = json.loads(listed.read_text(encoding="utf-8"))
        examples: dict[str, list[Example]] = {}
        for row in rows:
            truth = str(row["answer"]) if "answer" in row else None
            example = Example(str(row["question"]), truth, " ".join(row.get("type", ())))
            examples.setdefault(PurePath(row["clip"]).name, []).append(example)
        return tuple(
            ClipFile(
                key=name,
                name=f"Clip {number}",
                path=folder / _CLIPS / name,
                size_bytes=(folder / _CLIPS / name).stat().st_size,
                media_type=MEDIA_TYPES[PurePath(name).suffix],
                examples=tuple(examples[name]),
                model=model,
            )
            for number, name in enumerate(examples, 1)
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"ui_demo: {listed} cannot be read: {error!r}") from error


class StoredClip:
    """A clip's file as the ingest reads it: opened for each read, so that nobody has to close it.

    Args:
        clip: whose file.
    """

    def __init__(self, clip: ClipFile) -> None:
        self._path, self.size = clip.path, clip.size_bytes
        self._position = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; the new position [bytes]."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Read from here on; all of it without a size."""
        with self._path.open("rb") as file:
            file.seek(self._position)
            data = file.read(size)
        self._position += len(data)
        return data


class Shelf:
    """Shipped clips, and uploads for as long as there is room.

    Args:
        shipped: always there.
        max_clip_bytes: of one upload.
        max_uploads: that lie here at once.
        new_key: makes names that cannot be guessed.
    """

    def __init__(
        self,
        shipped: tuple[ClipFile, ...],
        *,
        max_clip_bytes: int,
        max_uploads: int = 16,
        new_key: Callable[[], str] = lambda: secrets.token_urlsafe(18),
    ) -> None:
        self.shipped = shipped
        self.max_clip_bytes = max_clip_bytes
        self._scratch: TemporaryDirectory[str] | None = None
        self._max_uploads = max_uploads
        self._new_key = new_key
        self._uploads: OrderedDict[str, ClipFile] = OrderedDict()

    async def put(self, name: str, data: bytes) -> ClipFile:
        """Take an upload that is in memory; raises as :meth:`take`."""

        async def save(path: Path) -> None:
            await asyncio.to_thread(path.write_bytes, data)

        return await self.take(name, len(data), save)

    async def take(self, name: str, size_bytes: int, save: Callable[[Path], Awaitable[None]]) -> ClipFile:
        """Take an upload.

        Args:
            name: what the visitor's file is called; says what it is taken as.
            size_bytes: of the file.
            save: puts it where it is told.

        Raises:
            InvalidQuestionError: it is nothing that shows or sounds, or empty.
            QuestionTooLargeError: it is larger than allowed.
        """
        shown = PurePath(name).name[:80] or "upload"
        media_type = MEDIA_TYPES.get(PurePath(name).suffix.lower())
        if media_type is None:
            raise InvalidQuestionError(
                "clip", f"{shown!r} is no video, image or sound; allowed are {' '.join(sorted(MEDIA_TYPES))}"
            )
        if not size_bytes:
            raise InvalidQuestionError("clip", f"{shown!r} is empty")
        if size_bytes > self.max_clip_bytes:
            raise QuestionTooLargeError(
                "clip", f"{shown!r} has {size_bytes} bytes; at most {self.max_clip_bytes} are allowed"
            )
        key = self._new_key()
        clip = self._uploads[key] = ClipFile(key, shown, self._folder() / key, size_bytes, media_type)
        while len(self._uploads) > self._max_uploads:
            self._uploads.popitem(last=False)[1].path.unlink(missing_ok=True)
        await save(clip.path)
        return clip

    def close(self) -> None:
        """Forget the uploads."""
        self._uploads.clear()
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def find(self, key: str) -> ClipFile | None:
        """A clip by its key; None if it never was here or had to leave."""
        return self._uploads.get(key) or next((clip for clip in self.shipped if clip.key == key), None)

    def _folder(self) -> Path:
        if self._scratch is None:
            self._scratch = TemporaryDirectory(prefix="tokenlink-clips-")
        return Path(self._scratch.name)
