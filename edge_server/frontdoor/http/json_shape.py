"""Bounds the shape of JSON before it is parsed: depth, length of numbers, number of parts.

A parser that recurses runs out of stack on a body of brackets, one that builds long integers takes time in
the square of their length, and one byte of JSON can become a hundred bytes of memory.

Whatever the bytes are, looking at them is linear: whole bodies pass only through searches of the language's
own (milliseconds for 16 MB), and what is looked at one by one is counted first.
"""

from __future__ import annotations

from edge_server.errors import InvalidQuestionError, QuestionTooLargeError

MAX_DEPTH = 32
MAX_DIGITS = 64
MAX_MARKS = 100_000
MAX_ESCAPES = 1_000_000
"""PHP writes each slash as ``\\/``, one byte of 64 in base64: 12 MB of it hold 250,000."""

_MARKS = b',:[]{}"'
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_DIGITS_ALIKE = bytes(ord("0") if byte in b"0123456789" else ord(" ") for byte in range(256))


def check_json_shape(body: bytes) -> None:
    """Let a body pass that a parser can take.

    Raises:
        InvalidQuestionError: it nests too deep, or a number is too long; names what was found.
        QuestionTooLargeError: it has too many parts, or too many escaped characters.
    """
    marks = len(body) - len(body.translate(None, _MARKS))
    if marks > MAX_MARKS:
        raise QuestionTooLargeError(
            "body", f"holds {marks} commas, colons, brackets and quotes; at most {MAX_MARKS} are allowed"
        )
    escapes = len(body) - len(body.translate(None, b"\\"))
    if escapes > MAX_ESCAPES:
        raise QuestionTooLargeError("body", f"holds {escapes} backslashes; at most {MAX_ESCAPES} are allowed")
    outside = _outside_strings(body)
    alike = outside.translate(_DIGITS_ALIKE)
    start = alike.find(b"0" * (MAX_DIGITS + 1))
    if start >= 0:
        rest = alike[start:]
        digits = len(rest) - len(rest.lstrip(b"0"))
        raise InvalidQuestionError(
            "body", f"holds a number of {digits} digits; at most {MAX_DIGITS} are allowed"
        )
    deepest = _deepest(outside.translate(None, _NOT_BRACKETS))
    if deepest > MAX_DEPTH:
        raise InvalidQuestionError(
            "body", f"nests lists and objects {deepest} deep; at most {MAX_DEPTH} are allowed"
        )


def _outside_strings(body: bytes) -> bytes:
    """The body with every string, also one without an end, made one quote."""
    pieces, at = [], 0
    while True:
        begin = body.find(b'"', at)
        if begin < 0:
            pieces.append(body[at:])
            return b'"'.join(pieces)
        pieces.append(body[at:begin])
        at = _end_of_string(body, begin + 1)


def _end_of_string(body: bytes, start: int) -> int:
    """Where a string that begins here is over: behind its quote, or at the body's end."""
    looked_from = start
    while True:
        quote = body.find(b'"', looked_from)
        if quote < 0:
            return len(body)
        # No byte is looked at twice: behind a quote that is escaped, the search goes on behind it.
        before = body[looked_from:quote]
        backslashes = len(before) - len(before.rstrip(b"\\"))
        looked_from = quote + 1
        if backslashes % 2 == 0:
            return looked_from


def _deepest(brackets: bytes) -> int:
    depth = deepest = 0
    for bracket in brackets:
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest
