"""Checks a WAV header against the bytes that follow it.

FFmpeg reads a WAV until the bytes end, whatever length it declares: a file that was cut short, or a header
made up to ask for gigabytes, would pass as a shorter recording. Here such a file is refused.
"""

from __future__ import annotations

import os
from typing import BinaryIO

from device_agent.errors import MediaError

MAX_CHUNKS = 1000
MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 768_000
"""Of any recording: below, a few samples would be blown up to minutes; above lies nothing that is heard."""
MAX_CHANNELS = 64


def is_wav(head: bytes) -> bool:
    """Whether bytes begin as a RIFF WAVE file does."""
    return head[:4] == b"RIFF" and head[8:12] == b"WAVE"


def check_wav(file: BinaryIO, field: str) -> None:
    """Follow the chunks of a WAV file; its position is put back to the start.

    Args:
        file: seekable, at any position.
        field: what to call it in errors.

    Raises:
        MediaError: a chunk declares more bytes than there are, there is no sound, or the format is absurd.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(12)
    rate, channels, sound_bytes = 0, 0, None
    for _ in range(MAX_CHUNKS):
        header = file.read(8)
        if len(header) < 8:
            break
        name, declared = header[:4], int.from_bytes(header[4:], "little")
        present = size - file.tell()
        if declared > present:
            raise MediaError(
                field,
                f"the WAV's {name.decode('latin-1')!r} chunk declares {declared} bytes, {present} follow; "
                "write it to a file with its true length",
            )
        if name == b"fmt ":
            layout = file.read(min(declared, 16))
            if len(layout) < 16:
                raise MediaError(field, f"the WAV's format chunk has {len(layout)} bytes; at least 16 needed")
            channels = int.from_bytes(layout[2:4], "little")
            rate = int.from_bytes(layout[4:8], "little")
            file.seek(declared - len(layout), os.SEEK_CUR)
        else:
            if name == b"data":
                sound_bytes = declared
            file.seek(declared, os.SEEK_CUR)
        if declared % 2:
            file.seek(1, os.SEEK_CUR)
    file.seek(0)
    check_sound(rate, channels, field)
    if not sound_bytes:
        raise MediaError(field, "the WAV holds no sound")


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
