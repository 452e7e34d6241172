"""Base64 as clients send it: with line breaks, without padding, percent-encoded in data URLs.

What browsers take in a data URL is taken (WHATWG's forgiving-base64; RFC 2397), and nothing else: a character
that has no place in base64 is a fault, not left out.
"""

from __future__ import annotations

import binascii
from urllib.parse import unquote

_WHITESPACE = str.maketrans("", "", " \t\n\f\r")


def decoded(text: str) -> bytes:
    """What a text stands for.

    Raises:
        ValueError: it is not base64.
    """
    text = (unquote(text) if "%" in text else text).translate(_WHITESPACE)
    return binascii.a2b_base64(padded(text.encode("ascii")), strict_mode=True)


def padded(text: bytes) -> bytes:
    """With the padding that many leave out."""
    return text + b"=" * (-len(text) % 4)
