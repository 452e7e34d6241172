"""Emoji: characters that a font draws and Unicode names."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from PIL import ImageFont

_FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
_FONT_SIZE = 109
_BLOCKS = ((0x2600, 0x27C0), (0x1F300, 0x1F650), (0x1F680, 0x1F700), (0x1F900, 0x1FB00))


def drawing_names() -> list[str]:
    """What Unicode calls the characters of the font, as words."""
    font = ImageFont.truetype(str(_FONT), _FONT_SIZE)
    found = []
    for first, end in _BLOCKS:
        for code in range(first, end):
            name = unicodedata.name(chr(code), "")
            if name and "MODIFIER" not in name and font.getmask(chr(code)).getbbox() is not None:
                found.append(name.lower())
    return found
