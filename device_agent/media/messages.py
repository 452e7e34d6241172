"""What the process that decodes and the one that asks it send one another.

A message is four bytes of length, that much JSON, and the bytes that it says follow it. Nothing is unpickled
on either side.

    request ─▶ ┌─ {"read": [offset, size]} ─▶ ◀─ {"size": n}, n bytes ─┐ as often as the decoder wants
               └───────────────────────────────────────────────────────┘ ─▶ the clip, or an error

The file stays with the process that asks: of a long one only what is wanted crosses the pipe.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict
from typing import Any, BinaryIO

import numpy as np

from device_agent.media.clip import Clip, MediaSpec, Window

MAX_HEADER_BYTES = 64 * 1024
MAX_READ_BYTES = 2**20
"""Of a file at once."""
_LENGTH = struct.Struct(">I")
_COLOURS = 3


def send(stream: BinaryIO, header: dict[str, Any], *parts: Any) -> None:
    """Write one message: a header and the bytes that it says follow it."""
    text = json.dumps(header).encode()
    stream.write(_LENGTH.pack(len(text)) + text)
    for part in parts:
        stream.write(part)
    stream.flush()


def receive(stream: BinaryIO) -> dict[str, Any]:
    """Read the header of the next message.

    Raises:
        EOFError: the other side has gone, or breaks off.
    """
    size = _LENGTH.unpack(read_exactly(stream, _LENGTH.size))[0]
    if size > MAX_HEADER_BYTES:
        raise EOFError
    header: dict[str, Any] = json.loads(read_exactly(stream, size))
    return header


def read_exactly(stream: BinaryIO, size: int) -> bytes:
    """So many bytes.

    Raises:
        EOFError: the stream ends before.
    """
    data = stream.read(size)
    if len(data) != size:
        raise EOFError
    return data


def message_of(clip: Clip) -> tuple[dict[str, Any], list[Any]]:
    """A clip as the header and the parts of a message."""
    frames, pcm = clip.frames_THWC, clip.pcm_S
    header = {
        "frames": None if frames is None else list(frames.shape),
        "pcm": None if pcm is None else len(pcm),
        "is_image": clip.is_image,
        "window": None if clip.window is None else asdict(clip.window),
    }
    parts = [np.ascontiguousarray(part).data for part in (frames, pcm) if part is not None and part.size]
    return header, parts


def clip_of(header: dict[str, Any], stream: BinaryIO, spec: MediaSpec) -> Clip:
    """The clip of a message, which is no larger than one of that spec can be.

    Raises:
        EOFError: the stream ends before the clip does.
        ValueError: it says that it is larger.
    """
    frames, pcm = None, None
    if (shape := header["frames"]) is not None:
        count, height, width, colours = map(int, shape)
        if count > spec.max_frames or max(height, width) > spec.max_side or colours != _COLOURS:
            raise ValueError(f"frames of {shape}")
        size = count * height * width * colours
        frames = np.frombuffer(read_exactly(stream, size), np.uint8).reshape(count, height, width, colours)
    if header["pcm"] is not None:
        samples = int(header["pcm"])
        if samples > round(spec.window_s * spec.sample_rate_hz):
            raise ValueError(f"{samples} samples")
        pcm = np.frombuffer(read_exactly(stream, 4 * samples), np.float32)
    window = None if header["window"] is None else Window(**header["window"])
    return Clip(frames, pcm, header["is_image"], window=window)
