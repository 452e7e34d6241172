"""Files as FFmpeg gets to see them: without a name, what it need not read left out or blanked."""

from __future__ import annotations

import bisect
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from device_agent.errors import MediaError, MediaLimitError


@contextmanager
def opened(path: Path, field: str) -> Iterator[tuple[BinaryIO, int]]:
    """A file, and its size [bytes].

    Raises:
        MediaError: it is none, or cannot be read, while the context lasts.
    """
    try:
        if not path.is_file():
            raise MediaError(field, _instead(path))
        with path.open("rb") as file:
            yield file, path.stat().st_size
    except OSError as error:
        raise MediaError(field, f"cannot be read: {error.strerror or error}") from error


def _instead(path: Path) -> str:
    """What there is where a file should be."""
    if path.is_dir():
        return "is a folder, not a file"
    if path.exists():
        return "is a pipe or a device, which cannot be read from any place; write it into a file first"
    return "does not exist"


class ScreenedFile:
    """A part of a seekable file, behind other bytes, some of its own replaced.

    It has no name: FFmpeg would guess formats, and patterns of files, from one.

    Args:
        file: seekable.
        begin: where the part begins [bytes].
        end: where it ends; None: with the file.
        prefix: what is read before it.
        patches: what is read in place of what stands there, by offset in ``file``.
        max_read_bytes: reading more than this in all is refused.
        field: what to call the file in that refusal.
    """

    def __init__(
        self,
        file: BinaryIO,
        *,
        begin: int = 0,
        end: int | None = None,
        prefix: bytes = b"",
        patches: Mapping[int, bytes] | None = None,
        max_read_bytes: int | None = None,
        field: str = "media",
    ) -> None:
        size = file.seek(0, os.SEEK_END)
        self._file, self._begin, self._prefix = file, begin, prefix
        self._size = len(prefix) + max((size if end is None else min(end, size)) - begin, 0)
        self._position = 0
        self._patches = dict(patches or {})
        self._offsets = sorted(self._patches)
        self._longest = max(map(len, self._patches.values()), default=0)
        self._left, self._most, self._field = max_read_bytes, max_read_bytes, field

    def read(self, size: int = -1) -> bytes:
        """Read from here on; all of it without a size.

        Raises:
            MediaLimitError: more has been read than is allowed.
        """
        left = max(self._size - self._position, 0)
        size = left if size < 0 else min(size, left)
        if self._left is not None:
            self._left -= size
            if self._left < 0:
                raise MediaLimitError(
                    self._field,
                    f"takes more than {self._most} bytes to read, the most that is allowed (media.max_bytes)",
                )
        data = self._prefix[self._position : self._position + size]
        if len(data) < size:
            at = self._begin + self._position + len(data) - len(self._prefix)
            self._file.seek(at)
            data += self._patched(at, self._file.read(size - len(data)))
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; returns the new position [bytes]."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def tell(self) -> int:
        """Position [bytes]."""
        return self._position

    def _patched(self, begin: int, data: bytes) -> bytes:
        first = bisect.bisect_left(self._offsets, begin - self._longest + 1)
        last = bisect.bisect_left(self._offsets, begin + len(data))
        if first == last:
            return data
        patched = bytearray(data)
        for offset in self._offsets[first:last]:
            for at, byte in enumerate(self._patches[offset], offset - begin):
                if 0 <= at < len(patched):
                    patched[at] = byte
        return bytes(patched)
