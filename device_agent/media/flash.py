"""What a Flash video says about itself, left out where it is long: FFmpeg looks through all for each part.

Source: Adobe Flash Video File Format Specification 10.1, annex E.
"""

from __future__ import annotations

import os
from typing import BinaryIO

FLASH_SIGNATURE = b"FLV"
MAX_SCRIPT_BYTES = 4096
"""Of the first script tag, in which encoders write size and rate; longer ones are lists for players."""
MAX_TAGS = 200_000
_HEAD_BYTES, _SIZE_BYTES = 11, 4
_TYPE_BITS, _SCRIPT, _SKIPPED = 0x1F, 18, b"\0"


def blanked_scripts(file: BinaryIO, begin: int = 0) -> tuple[dict[int, bytes], int]:
    """What to read in place of the types of script tags, offset to bytes; and where the tags end.

    Args:
        file: seekable, at any position.
        begin: where the video begins [bytes].
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(begin + 5)
    position = begin + int.from_bytes(file.read(4), "big") + _SIZE_BYTES
    patches: dict[int, bytes] = {}
    known = False
    for _ in range(MAX_TAGS):
        file.seek(position)
        head = file.read(_HEAD_BYTES)
        if len(head) < _HEAD_BYTES:
            return patches, size
        length = int.from_bytes(head[1:4], "big")
        if head[0] & _TYPE_BITS == _SCRIPT:
            if known or length > MAX_SCRIPT_BYTES:
                patches[position] = _SKIPPED
            known = True
        position += _HEAD_BYTES + length + _SIZE_BYTES
    return patches, min(position, size)
