"""Titles, chapters and attachments of a Matroska file, blanked out: FFmpeg looks through all for each.

Source: RFC 9559 (Matroska), 5.1 and 26; RFC 8794 (EBML), 4 and 5.
"""

from __future__ import annotations

from typing import BinaryIO

EBML_SIGNATURE = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"
_BLANKED = frozenset({b"\x12\x54\xc3\x67", b"\x19\x41\xa4\x69", b"\x10\x43\xa7\x70"})
"""Tags, Attachments, Chapters."""
_VOID = b"\xec"
_MAX_ELEMENTS = 100_000


def blanked_elements(file: BinaryIO, size: int) -> dict[int, bytes]:
    """What to read in place of the heads of elements that no picture or sound is in: offset to bytes.

    Args:
        file: seekable, at any position.
        size: of the file [bytes].
    """
    patches: dict[int, bytes] = {}
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
        position = content + length
    return patches


def _width(first: bytes) -> int:
    """How many bytes a number has that begins with this one; 0: none does."""
    return 9 - first[0].bit_length() if first and first[0] else 0
