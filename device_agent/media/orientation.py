"""Pictures turned and mirrored as their file says that they are shown.

A turn is four numbers, as in a display matrix of FFmpeg and MP4: a pixel at x, y is shown at
``turn[0] * x + turn[2] * y``, ``turn[1] * x + turn[3] * y``. Of images it stands in their EXIF, of MP4 in the
track's header, of HEIF among the properties of an item; they are read here and in
:mod:`device_agent.media.boxes`. Of other films it comes with a frame, from the container (Matroska) or the
codec (H.264): as a matrix, since in an angle a mirror looks like half a turn.

Sources: Exif 2.32, 4.6; ISO/IEC 14496-12, 6.2.2; PNG (third edition), 11.3.4; WebP container, RFC 9649.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Turn: TypeAlias = tuple[int, int, int, int]

UPRIGHT: Turn = (1, 0, 0, 1)
EXIF_TURNS: dict[int, Turn] = {
    1: UPRIGHT,
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}
"""By EXIF's number."""
_ORIENTATION_TAG = 0x0112
_SHORT, _LONG = 3, 4


def turned(pixels: Pixels, turn: Turn) -> Pixels:
    """Pixels [H, W, C] as they are shown.

    Quarter turns and mirrors, as FFmpeg's ``autorotate`` and Pillow's ``exif_transpose`` do; an angle
    between goes to the nearest quarter.
    """
    right_x, right_y, down_x, down_y = turn
    if abs(right_y) + abs(down_x) > abs(right_x) + abs(down_y):
        pixels = pixels.swapaxes(0, 1)
        mirrored, flipped = down_x < 0, right_y < 0
    else:
        mirrored, flipped = right_x < 0, down_y < 0
    if mirrored:
        pixels = pixels[:, ::-1]
    return pixels[::-1] if flipped else pixels


def followed_by(first: Turn, then: Turn) -> Turn:
    """One turn that does what two do."""
    a, b, c, d = first
    e, f, g, h = then
    return (a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h)


def by_matrix(matrix: bytes) -> Turn:
    """What a display matrix of FFmpeg says: nine numbers of 32 bits, of which four turn."""
    right_x, right_y, _, down_x, down_y = struct.unpack("=5i", matrix[:20])
    return (right_x, right_y, down_x, down_y)


def by_angle(degrees: float) -> Turn:
    """A turn against the clock [degrees], to the nearest quarter."""
    return (UPRIGHT, EXIF_TURNS[8], EXIF_TURNS[3], EXIF_TURNS[6])[round(degrees / 90) % 4]


def exif_turn(data: bytes | memoryview) -> Turn | None:
    """What the EXIF of a JPEG, PNG, WebP or TIFF file says; None where there is none, or no sense in it."""
    view = memoryview(data)
    head = bytes(view[:12])
    if head.startswith(b"\xff\xd8"):
        blocks = _jpeg_blocks(view)
    elif head.startswith(b"\x89PNG"):
        blocks = _chunks(view, 8, ">I4s", b"eXIf", 4, 1)
    elif head.startswith(b"RIFF") and head[8:] == b"WEBP":
        blocks = _chunks(view, 12, "<4sI", b"EXIF", 0, 2)
    elif head[:4] in (b"II*\0", b"MM\0*"):
        blocks = iter([view])
    else:
        return None
    block = next(blocks, None)
    return None if block is None else EXIF_TURNS.get(_orientation(block))


def _jpeg_blocks(view: memoryview) -> Iterator[memoryview]:
    position = 2
    while len(view) - position >= 4 and view[position] == 0xFF:
        marker, size = view[position + 1], int.from_bytes(view[position + 2 : position + 4], "big")
        if marker == 0xFF:
            position += 1
            continue
        if marker == 0xDA:
            return
        body = view[position + 4 : position + 2 + size]
        if marker == 0xE1 and bytes(body[:6]) == b"Exif\0\0":
            yield body[6:]
        position += 2 + max(size, 2)


def _chunks(
    view: memoryview, position: int, layout: str, wanted: bytes, behind: int, align: int
) -> Iterator[memoryview]:
    """The bodies of chunks of one name; ``behind`` each stand so many other bytes."""
    while len(view) - position >= 8:
        fields = struct.unpack(layout, view[position : position + 8])
        name, size = fields if isinstance(fields[0], bytes) else fields[::-1]
        body = view[position + 8 : position + 8 + size]
        if name == wanted:
            yield body[6:] if bytes(body[:6]) == b"Exif\0\0" else body
        position += 8 + size + size % align + behind


def _orientation(block: memoryview) -> int:
    """EXIF's number out of a block that begins as a TIFF file does; 0 where there is none."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(block[:4]))
    if order is None or len(block) < 8:
        return 0
    at = struct.unpack(f"{order}I", block[4:8])[0]
    count = struct.unpack(f"{order}H", block[at : at + 2])[0] if at + 2 <= len(block) else 0
    for begin in range(at + 2, min(at + 2 + 12 * count, len(block) - 11), 12):
        tag, kind, values = struct.unpack(f"{order}HHI", block[begin : begin + 8])
        if tag == _ORIENTATION_TAG and values == 1 and kind in (_SHORT, _LONG):
            layout, size = ("H", 2) if kind == _SHORT else ("I", 4)
            return int(struct.unpack(f"{order}{layout}", block[begin + 8 : begin + 8 + size])[0])
    return 0
