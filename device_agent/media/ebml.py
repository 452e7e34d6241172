"""Titles, chapters and attachments of a Matroska file, blanked out: FFmpeg looks through all for each.

And what of its pictures is shown (PixelCrop), which FFmpeg hands on to players and PyAV does not.

Source: RFC 9559 (Matroska), 5.1 and 26; RFC 8794 (EBML), 4 and 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from device_agent.media.boxes import Crop

EBML_SIGNATURE = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"
_BLANKED = frozenset({b"\x12\x54\xc3\x67", b"\x19\x41\xa4\x69", b"\x10\x43\xa7\x70"})
"""Tags, Attachments, Chapters."""
_TRACKS, _TRACK, _VIDEO = b"\x16\x54\xae\x6b", b"\xae", b"\xe0"
_KIND_OF_TRACK, _PICTURES = b"\x83", 1
_WIDTH, _HEIGHT = b"\xb0", b"\xba"
_LEFT, _RIGHT, _TOP, _BOTTOM = b"\x54\xcc", b"\x54\xdd", b"\x54\xbb", b"\x54\xaa"
_VOID = b"\xec"
_MAX_ELEMENTS = 100_000
_MAX_TRACKS_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Elements:
    """What the elements of a file say.

    Attributes:
        patches: what to read in place of the heads of those that no picture or sound is in: offset to bytes.
        crops: what is shown of the pictures of each track that has some, in their order; None: all.
    """

    patches: dict[int, bytes]
    crops: tuple[Crop | None, ...]


def read_elements(file: BinaryIO, size: int) -> Elements:
    """Follow the elements of a file.

    Args:
        file: seekable, at any position.
        size: of the file [bytes].
    """
    patches: dict[int, bytes] = {}
    crops: tuple[Crop | None, ...] = ()
    position = 0
    for _ in range(_MAX_ELEMENTS):
        if position >= size:
            break
        file.seek(position)
        head = file.read(12)
        id_bytes = _width(head[:1])
        name = head[:id_bytes]
        size_bytes = _width(head[id_bytes : id_bytes + 1])
        if not id_bytes or not size_bytes or len(head) < id_bytes + size_bytes:
            break
        length = int.from_bytes(head[id_bytes : id_bytes + size_bytes], "big") & (1 << 7 * size_bytes) - 1
        unknown = length == (1 << 7 * size_bytes) - 1
        content = position + id_bytes + size_bytes
        if name == _SEGMENT:
            position = content
            continue
        if unknown:
            break  # a stream; its clusters have no end that could be told without reading them
        if name in _BLANKED:
            width = min(id_bytes + size_bytes - 1, 8)
            rest = content + length - position - 1 - width
            patches[position] = _VOID + (rest | 1 << 7 * width).to_bytes(width, "big")
        elif name == _TRACKS and length <= _MAX_TRACKS_BYTES:
            file.seek(content)
            crops = tuple(_crops(file.read(length)))
        position = content + length
    return Elements(patches, crops)


def _crops(tracks: bytes) -> Iterator[Crop | None]:
    for name, track in _children(tracks):
        values = dict(_children(track)) if name == _TRACK else {}
        if int.from_bytes(values.get(_KIND_OF_TRACK, b""), "big") == _PICTURES:
            yield _crop(dict(_children(values.get(_VIDEO, b""))))


def _crop(video: dict[bytes, bytes]) -> Crop | None:
    width, height, left, right, top, bottom = (
        int.from_bytes(video.get(name, b""), "big")
        for name in (_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM)
    )
    crop = left, top, width - left - right, height - top - bottom
    return crop if any((left, right, top, bottom)) and min(crop[2:]) >= 1 else None


def _children(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each element of one that is held in memory."""
    position = 0
    while position < len(data):
        id_bytes = _width(data[position : position + 1])
        size_bytes = _width(data[position + id_bytes : position + id_bytes + 1])
        content = position + id_bytes + size_bytes
        if not id_bytes or not size_bytes or content > len(data):
            return
        number = int.from_bytes(data[position + id_bytes : content], "big")
        length = number & (1 << 7 * size_bytes) - 1
        yield data[position : position + id_bytes], data[content : content + length]
        position = content + length


def _width(first: bytes) -> int:
    """How many bytes a number has that begins with this one; 0: none does."""
    return 9 - first[0].bit_length() if first and first[0] else 0
