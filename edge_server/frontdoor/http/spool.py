"""Media in a JSON body, put into a file as it arrives: a film of a phone is not held in memory.

    {"data": "AAAA....      a long base64 text ──▶ decoded ──▶ a file without a name
    {"data": "spooled:..."  what the rest of the server sees of it

The file has no name in any folder, and is gone with the last who reads it. A text that is no base64 stays
where it is: in memory, and within the bound on that.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from starlette.types import Scope

from edge_server.errors import AdmissionRefusedError, InvalidQuestionError, QuestionTooLargeError
from edge_server.frontdoor.base64_text import padded
from edge_server.frontdoor.ports import RawMedia

SPOOLED = "tokenlink.spooled"
"""Key of the ASGI scope under which what was put into files stands, by what stands for it in the body."""

LONG_CHARS = 256 * 1024
"""Texts up to this stay where they are."""
_KEYS = frozenset({b"data", b"url", b"image_url", b"file_data"})
"""What media stands under, at the doors that there are."""
_MAX_URL_HEAD = 2048
_QUOTE, _QUOTE_OR_ESCAPE = re.compile(rb'"'), re.compile(rb'["\\]')
_LINE_BREAKS = re.compile(rb"\\[nrt]")
"""As JSON has them; the same bytes unescaped are no JSON."""
_BASE64 = re.compile(rb"[A-Za-z0-9+/=]*(?:\\(?:[/nrt]|\Z)[A-Za-z0-9+/=]*)*")
_FED_AT_ONCE_BYTES = 64 * 1024
_WRITTEN_AT_ONCE_BYTES = 2**20
_FULL_S = 5.0


class SpooledFile:
    """A file without a name; closed when nobody refers to it any more.

    Args:
        folder: on whose disk it lies; None: that of temporary files.
    """

    def __init__(self, folder: Path | None) -> None:
        self._fd = -1
        self._fd, name = tempfile.mkstemp(prefix="tokenlink-", dir=folder)
        os.unlink(name)
        self._position = self.size = 0
        self.fault = ""
        """Why it is not what was sent; empty: it is."""

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def append(self, data: bytes) -> None:
        """Write at the end."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self._fd, view, self.size)
            self.size += written
            view = view[written:]

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; the new position [bytes]."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Read from here on; all of it without a size."""
        wanted = self.size if size < 0 else size
        data = os.pread(self._fd, wanted, self._position)
        self._position += len(data)
        return data


@dataclass
class _Diverted:
    """A text on its way into a file."""

    file: SpooledFile
    rest: bytes = b""
    decoded: bytearray = field(default_factory=bytearray)
    ended: bool = False

    def feed(self, text: bytes) -> int:
        """Decode more of it; how many bytes that gave."""
        text = self.rest + text
        self.rest = b""
        if b"\\" in text:
            if text.endswith(b"\\"):
                text, self.rest = text[:-1], b"\\"
            text = _LINE_BREAKS.sub(b"", text).replace(b"\\/", b"/")
        whole = len(text) - len(text) % 4
        text, self.rest = text[:whole], text[whole:] + self.rest
        return self._decode(text)

    def finish(self) -> int:
        """The text has ended; how many bytes its last characters gave."""
        return self._decode(padded(self.rest))

    def _decode(self, text: bytes) -> int:
        if not text or self.file.fault:
            return 0
        try:
            if self.ended:
                raise binascii.Error("Excess data after padding")
            data = binascii.a2b_base64(text, strict_mode=True)
        except binascii.Error as error:
            self.file.fault = f"is not base64: {error}"
            return 0
        self.ended = text.endswith(b"=")
        self.decoded += data
        return len(data)


class BodySpool:
    """One body, as it arrives.

    Args:
        folder: on whose disk files lie; None: that of temporary files.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._nonce = secrets.token_hex(16)
        self.text = bytearray()
        """The body, without what is in files."""
        self.files: dict[str, SpooledFile] = {}
        self.spooled_bytes = 0
        self._begin: int | None = None  # of the string that is open
        self._may_be_media = self._escaped = False
        self._last = b""
        self._diverted: _Diverted | None = None

    def feed(self, piece: bytes) -> None:
        """Take what came; :meth:`flush` writes what of it belongs into a file.

        Raises:
            AdmissionRefusedError: there can be no file.
        """
        for begin in range(0, len(piece), _FED_AT_ONCE_BYTES):
            self._feed(piece[begin : begin + _FED_AT_ONCE_BYTES])

    def _feed(self, piece: bytes) -> None:
        position = 0
        while position < len(piece):
            if self._diverted is not None:
                position = self._divert(self._diverted, piece, position)
            else:
                position = self._scan(piece, position)
        if self._begin is not None and self._may_be_media and len(self.text) - self._begin > LONG_CHARS:
            self._start_to_divert(self._begin)

    @property
    def to_write(self) -> bool:
        """Whether there is enough to write."""
        return self._diverted is not None and len(self._diverted.decoded) >= _WRITTEN_AT_ONCE_BYTES

    def flush(self) -> None:
        """Write what was decoded; takes a while.

        Raises:
            AdmissionRefusedError: the disk is full.
        """
        diverted = self._diverted
        if diverted is None or not diverted.decoded:
            return
        try:
            diverted.file.append(bytes(diverted.decoded))
        except OSError as error:
            raise _no_room(error) from error
        diverted.decoded.clear()

    def _scan(self, piece: bytes, position: int) -> int:
        """Copy up to the next quote that opens or ends a string."""
        if self._escaped:
            self._escaped = False
            self.text += piece[position : position + 1]
            return position + 1
        found = (_QUOTE if self._begin is None else _QUOTE_OR_ESCAPE).search(piece, position)
        if found is None:
            self.text += piece[position:]
            return len(piece)
        self.text += piece[position : found.end()]
        if found[0] == b"\\":
            self._escaped = True
        elif self._begin is None:
            before = bytes(self.text[-17:-1]).rstrip()
            self._may_be_media = before.endswith(b":") and self._last in _KEYS
            self._begin = len(self.text)
        else:
            self._last = bytes(self.text[self._begin : -1]) if len(self.text) - self._begin < 20 else b""
            self._begin = None
        return found.end()

    def _start_to_divert(self, begin: int) -> None:
        content = bytes(self.text[begin:])
        head = 0
        if content.startswith(b"data:"):
            head = content.find(b",", 0, _MAX_URL_HEAD) + 1
        if _BASE64.fullmatch(content, head) is None or (content.startswith(b"data:") and not head):
            self._may_be_media = False
            return
        try:
            file = SpooledFile(self._folder)
        except OSError as error:
            raise _no_room(error) from error
        name = f"spooled:{self._nonce}:{len(self.files)}"
        self.files[name] = file
        del self.text[begin + head :]
        self.text += name.encode()
        self._diverted = _Diverted(file)
        self.spooled_bytes += self._diverted.feed(content[head:])

    def _divert(self, diverted: _Diverted, piece: bytes, position: int) -> int:
        end = piece.find(b'"', position)
        self.spooled_bytes += diverted.feed(piece[position:] if end < 0 else piece[position:end])
        if end < 0:
            return len(piece)
        self.spooled_bytes += diverted.finish()
        self.flush()
        self._diverted, self._begin, self._last = None, None, b""
        self.text += b'"'
        return end + 1


def with_files(scope: Scope, media: Iterable[RawMedia]) -> tuple[RawMedia, ...]:
    """Media of a request, with the files that some of it lies in.

    Raises:
        InvalidQuestionError: what was sent was not base64.
    """
    files: dict[str, SpooledFile] = scope.get(SPOOLED, {})
    found = []
    for part in media:
        file = files.get(part.encoded)
        if file is not None and file.fault:
            raise InvalidQuestionError(part.field, file.fault)
        found.append(part if file is None else replace(part, file=file))
    return tuple(found)


def in_memory(scope: Scope, text: str, most_bytes: int, name: str) -> str:
    """The text of a token block, as it was sent.

    Args:
        scope: of the request.
        text: as the body has it now.
        most_bytes: that a block may hold.
        name: what the client calls it.

    Raises:
        QuestionTooLargeError: it is longer than any.
        InvalidQuestionError: it is no base64.
    """
    file: SpooledFile | None = scope.get(SPOOLED, {}).get(text)
    if file is None:
        return text
    if file.size > most_bytes:
        chars = 4 * -(-file.size // 3)
        raise QuestionTooLargeError(
            name, f"has {chars} characters; no block takes more than {4 * (most_bytes // 3 + 1)}"
        )
    if file.fault:
        raise InvalidQuestionError(name, file.fault)
    file.seek(0)
    return base64.b64encode(file.read()).decode("ascii")


def _no_room(error: OSError) -> AdmissionRefusedError:
    return AdmissionRefusedError(
        f"there is no room for what was sent ({error.strerror or error})",
        reason="spool",
        retry_delay_s=_FULL_S,
    )
