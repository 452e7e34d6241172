from __future__ import annotations

import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_server.errors import InvalidQuestionError, QuestionTooLargeError
from edge_server.frontdoor.http.json_shape import MAX_DEPTH, MAX_DIGITS, MAX_MARKS, check_json_shape


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"[" * 10_000, "10000 deep"),
        (b"[" * 10_000 + b"]" * 10_000, "10000 deep"),
        (b'{"a":' * 9_000 + b"1" + b"}" * 9_000, "9000 deep"),
        (b'{"n": ' + b"9" * 100_000 + b"}", "100000 digits"),
        (b'{"n": -' + b"9" * 65 + b"}", "65 digits"),
        (b'{"n": 0.' + b"1" * 70 + b"}", "70 digits"),
    ],
)
def test_what_a_parser_could_not_take_is_named(body: bytes, named: str) -> None:
    with pytest.raises(InvalidQuestionError, match=named) as refused:
        check_json_shape(body)
    assert refused.value.field == "body"


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 16_000_000,
        b"[]," * 5_000_000,
        b'"",' * 5_000_000,
        b'"' + b'\\"' * 8_000_000,
        b'"' * 16_000_000,
        b'{"data": "' + b"A" * 16_000_000 + b'"}',
        b'"' + b"\\" * 16_000_000,
        b"1" * 16_000_000,
        b" " * 16_000_000,
    ],
    ids=range(9),
)
def test_no_body_takes_long(body: bytes) -> None:
    began_s = time.process_time()
    with contextlib.suppress(InvalidQuestionError):
        check_json_shape(body)
    # Linear: a quadratic scan of these would take minutes.
    assert time.process_time() - began_s < 2.0


def test_too_many_parts_are_too_large() -> None:
    with pytest.raises(QuestionTooLargeError, match="commas"):
        check_json_shape(b"[" + b"1," * 200_000 + b"1]")


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.floats()
        | st.text()
        | st.integers(-(10**MAX_DIGITS) + 1, 10**MAX_DIGITS - 1),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=30,
    )
)
def test_ordinary_json_passes_whatever_stands_in_its_strings(value: object) -> None:
    for nested in (value, {"text": '[[[[{{{"' * 50 + "1" * 500, "value": [value]}):
        body = json.dumps(nested, ensure_ascii=False).encode("utf-8", "surrogatepass")
        check_json_shape(body)
        # The same marks outside strings are counted.
        with pytest.raises(InvalidQuestionError):
            check_json_shape(body + b"[" * (MAX_DEPTH + 1))


def test_the_deepest_that_is_allowed_passes() -> None:
    check_json_shape(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    with pytest.raises(InvalidQuestionError):
        check_json_shape(b"[" * (MAX_DEPTH + 1))


@pytest.mark.parametrize("closing", [b"]", b"}"])
def test_closing_brackets_are_parts_too(closing: bytes) -> None:
    with pytest.raises(QuestionTooLargeError, match="holds 100001 commas"):
        check_json_shape(closing * (MAX_MARKS + 1))


def test_escapes_are_bounded_and_those_of_slashes_pass() -> None:
    check_json_shape(b'{"data": "' + rb"\/" * 250_000 + b'"}')
    with pytest.raises(QuestionTooLargeError, match="1000001 backslashes"):
        check_json_shape(b'"' + b"\\" * 1_000_001)


def test_an_escaped_quote_ends_no_string() -> None:
    check_json_shape(rb'["\\\"' + b"[" * (MAX_DEPTH + 1) + b'"]')
    with pytest.raises(InvalidQuestionError, match="deep"):
        check_json_shape(rb'["\\\\"' + b"[" * (MAX_DEPTH + 1) + b'"]')
