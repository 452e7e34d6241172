"""Text from elsewhere, as a terminal may be shown it.

An answer, an error of a server or a file's name can hold bytes that are no text, or sequences that a terminal
obeys: colours, titles, moves of the cursor, text that runs backwards.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

_NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO))
_ESCAPED = frozenset(("Cc", "Cs", "Co", "Zl", "Zp"))
"""Unicode's categories of what is escaped: control, surrogates, private use, separators of lines."""
_UNSEEN = frozenset(
    "\u061c\u180e\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064"
    "\u2066\u2067\u2068\u2069\u206a\u206b\u206c\u206d\u206e\u206f\ufeff\ufff9\ufffa\ufffb"
) | frozenset(map(chr, range(0xE0000, 0xE0080)))
"""Marks of direction, and others that show nothing and hide what stands there. The joiners of scripts and of
pictures (U+200C, U+200D) are text."""


def printable(text: str, *, keep: str = "\n") -> str:
    """A text whose control characters are escaped; a byte that is no Unicode is shown as ``\\xe9``.

    Args:
        text: from anywhere.
        keep: control characters that stay.
    """
    return "".join(_shown(character, keep) for character in text)


def line_of(name: str) -> str:
    """A name, of a file or whatever else, within a line: one that holds the end of a line does not end it."""
    return printable(name, keep="")


def set_up_output() -> None:
    """Whatever the locale can print, printing does not fail: what it has no character for is escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler()
    handler.setFormatter(_Printable())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    # What cannot be parsed is told where it is received; here it would be a traceback.
    logging.getLogger("grpc").setLevel(logging.CRITICAL)


@contextmanager
def told_where_output_ends(program: str) -> Iterator[None]:
    """One message, not a traceback, where standard output cannot be written: its disk is full.

    Args:
        program: what the command is called.
    """
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except OSError as error:
        if error.errno not in _NO_ROOM or error.filename is not None:
            raise
        # What lies in the buffer would fail once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"{program}: standard output cannot be written: {error.strerror}", file=sys.stderr)
        sys.exit(1)


class _Printable(logging.Formatter):
    """Log lines as a terminal may be shown them: they repeat what servers and files say."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def _shown(character: str, keep: str) -> str:
    if character in keep:
        return character
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    if character in _UNSEEN or unicodedata.category(character) in _ESCAPED:
        return character.encode("unicode_escape", "backslashreplace").decode("ascii")
    return character
