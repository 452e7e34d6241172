"""What of OpenAI's chat request is honoured here, refused, or has no effect; nothing is ignored in silence.

What has no effect is named in the header :data:`HEADER` and in the answer's field ``warnings``. The table of
both is in docs/openai.md, and is held to this module by a test.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from pydantic import BaseModel

from edge_server.errors import InvalidQuestionError
from edge_server.frontdoor.http.openai_schema import ChatRequest

HEADER = "X-TokenLink-Ignored"
"""Response header: the fields of the request that had no effect, with commas."""

Refused: TypeAlias = Mapping[str, tuple[Callable[[Any], bool], str]]
"""For each field, whether a value is fine, and what is said of others."""
NoEffect: TypeAlias = Mapping[str, Callable[[Any], bool]]
"""For each field, whether with a value there is nothing to tell."""

_MOST_TOLD = 20
_UNPRINTABLE = re.compile(r"[^A-Za-z0-9_.\[\]-]")


def nothing(value: Any) -> bool:
    """Whether it says nothing, as a field that is left out."""
    return value in (None, False, "", [], {})


def one_of(*values: Any) -> Callable[[Any], bool]:
    """Whether it is one of some values, or says nothing."""
    return lambda value: nothing(value) or value in values


HONOURED = frozenset(ChatRequest.model_fields)
"""Fields that are taken at their word; ``response_format`` only as plain text."""

NO_EFFECT: NoEffect = {
    "top_k": nothing,
    "min_p": one_of(0, 0.0),
    "repetition_penalty": one_of(1, 1.0),
    "reasoning_effort": one_of("none"),
    "verbosity": nothing,
    "prediction": nothing,
    "modalities": one_of(["text"]),
    "store": nothing,
    "metadata": nothing,
    "service_tier": one_of("auto", "default"),
    "tools": nothing,  # the model calls none, as it may
    "functions": nothing,
    "parallel_tool_calls": lambda value: True,  # there are no tools to call
    "tool_choice": one_of("none", "auto"),
    "function_call": one_of("none", "auto"),
    "prompt_cache_key": lambda value: True,  # a hint; answers do not depend on it
    "prompt_cache_retention": lambda value: True,
    "prompt_cache_options": lambda value: True,
    "web_search_options": nothing,
}
"""Fields that are known and have no effect, each with the values at which there is nothing to tell: those
with which the answer would be the same."""

REFUSED: Refused = {
    "tool_choice": (one_of("none", "auto"), "asks for a tool; there are none here"),
    "function_call": (one_of("none", "auto"), "asks for a function; there are none here"),
    "modalities": (lambda value: "audio" not in (value or ()), "asks for sound; answers are text"),
    "audio": (nothing, "is not supported; answers are text"),
    "moderation": (nothing, "is not done here; leave it out"),
}
"""Fields that would change what an answer is: with other values than these the request is refused."""


def check_honoured(body: ChatRequest) -> None:
    """Refuse what would make another answer than this server gives.

    Raises:
        InvalidQuestionError: names the field.
    """
    refuse(body, REFUSED)
    if body.top_logprobs and not body.logprobs:
        raise InvalidQuestionError("top_logprobs", f"is {body.top_logprobs}, without logprobs")
    if body.response_format is not None and body.response_format.type != "text":
        raise InvalidQuestionError("response_format", f"is {body.response_format.type!r}; allowed: 'text'")


def ignored(body: ChatRequest, left_out: Sequence[int] = ()) -> list[str]:
    """The fields of a request that have no effect, as paths, at most a few; the rest are counted.

    Args:
        body: the request.
        left_out: numbers of messages that did not fit.
    """
    return shortened([*_ignored(body), *(f"messages[{number}].content" for number in left_out)])


def shortened(names: Sequence[str]) -> list[str]:
    """So many of them as a client is told."""
    if len(names) <= _MOST_TOLD:
        return list(names)
    return [*names[:_MOST_TOLD], f"and-{len(names) - _MOST_TOLD}-more"]


def told_in_header(warnings: Sequence[str]) -> dict[str, str]:
    """The header that says what had no effect; none where nothing had."""
    return {HEADER: ", ".join(warnings)} if warnings else {}


def _ignored(body: ChatRequest) -> Iterator[str]:
    yield from without_effect(body, REFUSED, NO_EFFECT)
    if body.draws_in_vain:
        yield "top_p"
    if body.stream_options is not None:
        yield from unknown(body.stream_options, "stream_options")
    for number, message in enumerate(body.messages):
        yield from unknown(message, f"messages[{number}]")
        if isinstance(message.content, list):
            for index, part in enumerate(message.content):
                yield from unknown_within(part, f"messages[{number}].content[{index}]")


def refuse(body: BaseModel, refused: Refused) -> None:
    """Refuse a field that would change what an answer is.

    Args:
        body: the request.
        refused: for each field, whether a value is fine, and what is said of others.

    Raises:
        InvalidQuestionError: names the field.
    """
    given = sent(body)
    for name, (is_fine, message) in refused.items():
        if not is_fine(given.get(name)):
            raise InvalidQuestionError(name, message)


def without_effect(body: BaseModel, refused: Refused, no_effect: NoEffect) -> Iterator[str]:
    """Fields beside those of the schema that have no effect, and a value that says something.

    Args:
        body: the request.
        refused: fields that :func:`refuse` has looked at.
        no_effect: for each known field, whether with a value the answer would be the same.
    """
    for name, value in (body.model_extra or {}).items():
        if name not in refused or name in no_effect:
            is_fine = no_effect.get(name, nothing)
            if not is_fine(value):
                yield told(name)


def unknown_within(part: BaseModel, place: str) -> Iterator[str]:
    """What is not known of a part, and of what it holds."""
    yield from unknown(part, place)
    for name, inner in part:
        if isinstance(inner, BaseModel):
            yield from unknown(inner, f"{place}.{name}")


def unknown(part: BaseModel, place: str) -> Iterator[str]:
    """What is not known of a part itself, and says something."""
    for name, value in (part.model_extra or {}).items():
        if not (nothing(value) or (name == "detail" and value == "auto")):
            yield f"{place}.{told(name)}"


def sent(body: BaseModel) -> dict[str, Any]:
    """All fields of a request, by name."""
    return {**{name: getattr(body, name) for name in type(body).model_fields}, **(body.model_extra or {})}


def told(name: str) -> str:
    """A name that a client made up, fit for a header."""
    return _UNPRINTABLE.sub("?", name[:64])
