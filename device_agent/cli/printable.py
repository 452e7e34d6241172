"""Text from elsewhere, as a terminal may be shown it.

An answer, an error of a server or a file's name can hold bytes that are no text, or sequences that a terminal
obeys: colours, titles, moves of the cursor, text that runs backwards.
"""

from __future__ import annotations

import io
import sys
import unicodedata

_ESCAPED = frozenset(("Cc", "Cs", "Co", "Zl", "Zp"))
"""Unicode's categories of what is escaped: control, surrogates, private use, separators of lines."""
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str, *, keep: str = "\n") -> str:
    """A text whose control characters are escaped; a byte that is no Unicode is shown as ``\\xe9``.

    Args:
        text: from anywhere.
        keep: control characters that stay.
    """
    return "".join(_shown(character, keep) for character in text)


def set_up_output() -> None:
    """Whatever the locale can print, printing does not fail: what it has no character for is escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _shown(character: str, keep: str) -> str:
    if character in keep:
        return character
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    if character in _DIRECTIONS or unicodedata.category(character) in _ESCAPED:
        return character.encode("unicode_escape", "backslashreplace").decode("ascii")
    return character
