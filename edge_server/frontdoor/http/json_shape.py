"""Bounds the shape of JSON before it is parsed: depth, length of numbers, number of parts.

A parser that recurses runs out of stack on a body of brackets, one that builds long integers takes time in
the square of their length, and one byte of JSON can become a hundred bytes of memory.
"""

from __future__ import annotations

import re

from edge_server.errors import InvalidQuestionError, QuestionTooLargeError

MAX_DEPTH = 32
MAX_DIGITS = 64
MAX_MARKS = 100_000

_MARKS = (b",", b":", b"[", b"{", b'"')
# A string, also one without an end (possessive: no input makes this go back), a bracket, a long number.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]|[0-9]{%d,}' % (MAX_DIGITS + 1), re.DOTALL)


def check_json_shape(body: bytes) -> None:
    """Let a body pass that a parser can take.

    Raises:
        InvalidQuestionError: it nests too deep, or a number is too long; names what was found.
        QuestionTooLargeError: it has too many parts.
    """
    marks = sum(body.count(mark) for mark in _MARKS)
    if marks > MAX_MARKS:
        raise QuestionTooLargeError(
            "body", f"holds {marks} commas, colons, brackets and quotes; at most {MAX_MARKS} are allowed"
        )
    depth = deepest = 0
    for match in _TOKEN.finditer(body):
        first = body[match.start()]
        if first in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif first in b"]}":
            depth -= 1
        elif first != ord('"'):
            digits = match.end() - match.start()
            raise InvalidQuestionError(
                "body", f"holds a number of {digits} digits; at most {MAX_DIGITS} are allowed"
            )
    if deepest > MAX_DEPTH:
        raise InvalidQuestionError(
            "body", f"nests lists and objects {deepest} deep; at most {MAX_DEPTH} are allowed"
        )
