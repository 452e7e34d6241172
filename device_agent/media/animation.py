"""Animated WebP, whose frames FFmpeg does not put together: each is decoded alone and laid over the last.

Source: RFC 9649 (WebP), 2.7.

Shapes: H height, W width.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from device_agent.errors import MediaError, MediaLimitError
from device_agent.media.clip import MediaSpec
from device_agent.media.limits import MediaLimits

_ANIMATED = 0x02
_ALPHA_FLAG = 0x10
_DISPOSED, _OVERWRITES = 0x01, 0x02
_MS = Fraction(1, 1000)
_LEAST_MS = 10
"""Browsers show a frame that says less for a tenth of a second."""
_INSTEAD_MS = 100


@dataclass(frozen=True)
class _Patch:
    left: int
    top: int
    width: int
    height: int
    shown_ms: int
    disposed: bool
    overwrites: bool
    still: bytes


def is_animated_webp(data: bytes) -> bool:
    """Whether a WebP file says that it is an animation."""
    return data[12:16] == b"VP8X" and len(data) >= 30 and bool(data[20] & _ANIMATED)


def animation_s(data: bytes, field: str) -> float:
    """How long an animated WebP takes, once through [s]; arguments and errors as :func:`animated_frames`."""
    return sum(patch.shown_ms for patch in _patches(data, field)) / 1000


def animated_frames(
    data: bytes, field: str, spec: MediaSpec, limits: MediaLimits, window_start_s: float = 0.0
) -> Iterator[Any]:
    """The frames of an animated WebP as ``av.VideoFrame``, in RGBA, with their time and duration.

    Args:
        data: the file.
        field: what to call it in errors.
        spec: the length of the window; what begins behind it is not decoded.
        limits: what decoding may cost.
        window_start_s: when the window begins [s].

    Raises:
        MediaError: damaged.
        MediaLimitError: too large.
    """
    width, height = _u24(data, 24) + 1, _u24(data, 27) + 1
    most = min(limits.max_frame_pixels, limits.max_frame_bytes // 8)
    if width * height > most:
        raise MediaLimitError(field, f"is {width} × {height} pixels; at most {most} in all are allowed")
    canvas_HW4 = np.zeros((height, width, 4), np.uint8)
    context = av.CodecContext.create("webp", "r")
    context.options = {"max_pixels": str(most), "err_detect": "explode"}
    context.thread_count = 1
    at_ms = 0
    began_s = time.thread_time()
    for patch in _patches(data, field):
        if at_ms >= (window_start_s + spec.window_s) * 1000:
            return
        if time.thread_time() - began_s > limits.max_decode_s:
            raise MediaLimitError(
                field, f"takes more than {limits.max_decode_s:g} s to decode (media.max_decode_s)"
            )
        if patch.left + patch.width > width or patch.top + patch.height > height:
            raise MediaError(field, "is an animation with a picture beyond its own edge")
        decoded = context.decode(av.Packet(patch.still))
        if len(decoded) != 1 or (decoded[0].width, decoded[0].height) != (patch.width, patch.height):
            raise MediaError(field, "is an animation of which a picture cannot be decoded")
        rows = slice(patch.top, patch.top + patch.height)
        columns = slice(patch.left, patch.left + patch.width)
        drawn_HW4 = decoded[0].reformat(format="rgba").to_ndarray()
        place_HW4 = canvas_HW4[rows, columns]
        place_HW4[:] = drawn_HW4 if patch.overwrites else _over(drawn_HW4, place_HW4)
        frame = av.VideoFrame.from_ndarray(canvas_HW4, format="rgba")
        frame.pts, frame.time_base, frame.duration = at_ms, _MS, patch.shown_ms
        yield frame
        at_ms += patch.shown_ms
        if patch.disposed:
            place_HW4[:] = 0


def _over(upper_HW4: npt.NDArray[np.uint8], lower_HW4: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    upper, lower = upper_HW4.astype(np.float32), lower_HW4.astype(np.float32)
    cover, rest = upper[..., 3:] / 255, lower[..., 3:] / 255 * (1 - upper[..., 3:] / 255)
    alpha = cover + rest
    mixed = (upper[..., :3] * cover + lower[..., :3] * rest) / np.where(alpha > 0, alpha, 1)
    return np.concatenate([mixed, alpha * 255], axis=-1).round().astype(np.uint8)


def _patches(data: bytes, field: str) -> Iterator[_Patch]:
    for name, body in _chunks(data, 12):
        if name != b"ANMF":
            continue
        if len(body) < 24:
            raise MediaError(field, "is an animation that was cut short")
        left, top = 2 * _u24(body, 0), 2 * _u24(body, 3)
        width, height = _u24(body, 6) + 1, _u24(body, 9) + 1
        parts = {kind: part for kind, part in _chunks(body, 16) if kind in (b"ALPH", b"VP8 ", b"VP8L")}
        still = b"".join(_chunk(kind, part) for kind, part in parts.items())
        if b"ALPH" in parts:
            edges = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
            still = _chunk(b"VP8X", bytes([_ALPHA_FLAG, 0, 0, 0]) + edges) + still
        whole = b"RIFF" + struct.pack("<I", 4 + len(still)) + b"WEBP" + still
        disposed, overwrites = bool(body[15] & _DISPOSED), bool(body[15] & _OVERWRITES)
        shown_ms = _u24(body, 12)
        shown_ms = shown_ms if shown_ms > _LEAST_MS else _INSTEAD_MS
        yield _Patch(left, top, width, height, shown_ms, disposed, overwrites, whole)


def _chunks(data: bytes, position: int) -> Iterator[tuple[bytes, bytes]]:
    while len(data) - position >= 8:
        name, size = struct.unpack("<4sI", data[position : position + 8])
        yield name, data[position + 8 : position + 8 + size]
        position += 8 + size + size % 2


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def _u24(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 3], "little")
