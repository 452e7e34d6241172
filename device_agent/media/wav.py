"""Reads the header of a WAV file, and says what of the file is its sound.

FFmpeg reads a WAV until the bytes end, whatever length it declares, and keeps every text in it. Here a file
that was cut short is refused; of any other FFmpeg gets its format and its samples, nothing else: not what
recorders and editors put beside or behind them.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

from device_agent.errors import MediaError

MAX_CHUNKS = 10_000
MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 768_000
"""Of any recording: below, a few samples would be blown up to minutes; above lies nothing that is heard."""
MAX_CHANNELS = 64

_UNKNOWN_BYTES = 2_000_000_000
"""Programs that write into a pipe declare about 2 or 4 GB, or nothing; larger files say so in ``ds64``."""
_MAX_FORMAT_BYTES = 2048
_ORDERS = {b"RIFF": "<", b"RIFX": ">", b"RF64": "<", b"BW64": "<"}


@dataclass(frozen=True)
class WavSound:
    """Where the samples are, and a header to read before them.

    Attributes:
        header: of a WAV file that holds nothing else.
        begin: of the samples in the file [bytes].
        end: likewise.
    """

    header: bytes
    begin: int
    end: int


def is_wav(head: bytes) -> bool:
    """Whether bytes begin as a WAVE file does."""
    return head[:4] in _ORDERS and head[8:12] == b"WAVE"


def check_wav(file: BinaryIO, field: str) -> WavSound:
    """Follow the chunks of a WAV file up to its samples; its position is put back to the start.

    Args:
        file: seekable, at any position.
        field: what to call it in errors.

    Raises:
        MediaError: it declares more samples than there are, there is no sound, or the format is absurd.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    riff = file.read(4)
    order = _ORDERS[riff]
    layout, long_bytes, found = b"", 0, None
    position = 12
    for _ in range(MAX_CHUNKS):
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            break
        name, declared = struct.unpack(f"{order}4sI", head)
        begin = position + 8
        if name == b"data":
            found = (begin, _end_of_samples(file, begin, declared, size, long_bytes, order, field))
            break
        if declared > size - begin:
            raise MediaError(
                field,
                f"is a WAV cut short before its sound: its {name.decode('latin-1')!r} chunk declares "
                f"{declared} bytes, {size - begin} follow",
            )
        if name == b"fmt " and not layout:
            layout = file.read(min(declared, _MAX_FORMAT_BYTES))
            if len(layout) < 16:
                raise MediaError(field, f"the WAV's format chunk has {len(layout)} bytes; at least 16 needed")
        elif name == b"ds64":
            long_bytes = int.from_bytes(file.read(16)[8:16], "little")
        position = begin + declared + _padding(file, begin + declared, declared)
    file.seek(0)
    channels, rate = struct.unpack(f"{order}HI", layout[2:8]) if layout else (0, 0)
    check_sound(rate, channels, field)
    if found is None or found[0] == found[1]:
        raise MediaError(field, "the WAV holds no sound")
    return WavSound(_header(riff, order, layout, found[1] - found[0]), *found)


def check_sound(rate_hz: int, channels: int, field: str) -> None:
    """Refuse what no recording declares.

    Raises:
        MediaError: names what was found and what is allowed.
    """
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ or not 1 <= channels <= MAX_CHANNELS:
        raise MediaError(
            field,
            f"declares {channels} channels at {rate_hz} Hz; "
            f"1 to {MAX_CHANNELS} at {MIN_RATE_HZ} to {MAX_RATE_HZ} are allowed",
        )


def _end_of_samples(
    file: BinaryIO, begin: int, declared: int, size: int, long_bytes: int, order: str, field: str
) -> int:
    present = size - begin
    if long_bytes and declared == 2**32 - 1:
        declared = long_bytes
    if declared > present and declared >= _UNKNOWN_BYTES and not long_bytes:
        return size  # a stream, whose length was not known when its header was written
    if declared == 0 and not _only_chunks(file, begin, size, order):
        return size  # a recording that nobody finished
    if declared > present:
        raise MediaError(
            field,
            f"the WAV's 'data' chunk declares {declared} bytes, {present} follow; it was cut short: "
            "record it again, or have its header written for what is there",
        )
    return begin + declared


def _only_chunks(file: BinaryIO, position: int, size: int, order: str) -> bool:
    """Whether nothing but whole chunks follows."""
    for _ in range(MAX_CHUNKS):
        if position >= size - 1:
            return True
        file.seek(position)
        head = file.read(8)
        if len(head) < 8 or not head[:4].isascii() or not head[:4].decode().isprintable():
            return False
        declared = struct.unpack(f"{order}I", head[4:])[0]
        position += 8 + declared + declared % 2
        if position > size + 1:
            return False
    return False


def _padding(file: BinaryIO, end: int, declared: int) -> int:
    """Chunks of an odd length are followed by a byte; some programs leave it out."""
    if declared % 2 == 0:
        return 0
    file.seek(end)
    following = file.read(5)
    return 0 if following[:1] != b"\0" and following[:4] in (b"fmt ", b"data", b"LIST", b"fact") else 1


def _header(riff: bytes, order: str, layout: bytes, sound_bytes: int) -> bytes:
    most = 2**32 - 1
    body = b"WAVE" + b"fmt " + struct.pack(f"{order}I", len(layout)) + layout + bytes(len(layout) % 2)
    body += b"data" + struct.pack(f"{order}I", min(sound_bytes, most))
    total = struct.pack(f"{order}I", min(len(body) + sound_bytes, most))
    return (b"RIFX" if riff == b"RIFX" else b"RIFF") + total + body
