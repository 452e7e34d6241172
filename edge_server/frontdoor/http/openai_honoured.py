"""What of OpenAI's chat request is honoured here, refused, or has no effect; nothing is ignored in silence.

What has no effect is named in the header :data:`HEADER` and in the answer's field ``warnings``. The table of
both is in docs/openai.md, and is held to this module by a test.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from edge_server.errors import InvalidQuestionError
from edge_server.frontdoor.http.openai_schema import ChatRequest

HEADER = "X-TokenLink-Ignored"
"""Response header: the fields of the request that had no effect, with commas."""

_MOST_TOLD = 20
_UNPRINTABLE = re.compile(r"[^A-Za-z0-9_.\[\]-]")


def _nothing(value: Any) -> bool:
    return value in (None, False, "", [], {})


def _is(*values: Any) -> Callable[[Any], bool]:
    return lambda value: _nothing(value) or value in values


HONOURED = frozenset(ChatRequest.model_fields)
"""Fields that are taken at their word; ``response_format`` only as plain text."""

NO_EFFECT: Mapping[str, Callable[[Any], bool]] = {
    "top_k": _nothing,
    "min_p": _is(0, 0.0),
    "repetition_penalty": _is(1, 1.0),
    "reasoning_effort": _is("none"),
    "verbosity": _nothing,
    "prediction": _nothing,
    "modalities": _is(["text"]),
    "store": _nothing,
    "metadata": _nothing,
    "service_tier": _is("auto", "default"),
    "tools": _nothing,  # the model calls none, as it may
    "functions": _nothing,
    "parallel_tool_calls": lambda value: True,  # there are no tools to call
    "tool_choice": _is("none", "auto"),
    "function_call": _is("none", "auto"),
    "prompt_cache_key": lambda value: True,  # a hint; answers do not depend on it
    "prompt_cache_retention": lambda value: True,
    "prompt_cache_options": lambda value: True,
    "web_search_options": _nothing,
}
"""Fields that are known and have no effect, each with the values at which there is nothing to tell: those
with which the answer would be the same."""

REFUSED: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "tool_choice": (_is("none", "auto"), "asks for a tool; there are none here"),
    "function_call": (_is("none", "auto"), "asks for a function; there are none here"),
    "modalities": (lambda value: "audio" not in (value or ()), "asks for sound; answers are text"),
    "audio": (_nothing, "is not supported; answers are text"),
    "moderation": (_nothing, "is not done here; leave it out"),
}
"""Fields that would change what an answer is: with other values than these the request is refused."""


def check_honoured(body: ChatRequest) -> None:
    """Refuse what would make another answer than this server gives.

    Raises:
        InvalidQuestionError: names the field.
    """
    sent = _sent(body)
    for name, (is_fine, message) in REFUSED.items():
        if not is_fine(sent.get(name)):
            raise InvalidQuestionError(name, message)
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
    names = [*_ignored(body), *(f"messages[{number}].content" for number in left_out)]
    if len(names) > _MOST_TOLD:
        names = [*names[:_MOST_TOLD], f"and-{len(names) - _MOST_TOLD}-more"]
    return names


def _ignored(body: ChatRequest) -> Iterator[str]:
    for name, value in (body.model_extra or {}).items():
        if name not in REFUSED or name in NO_EFFECT:
            is_fine = NO_EFFECT.get(name, _nothing)
            if not is_fine(value):
                yield _told(name)
    if body.top_p not in (None, 1.0) and not body.temperature:
        yield "top_p"  # there is nothing to draw from
    if body.stream_options is not None:
        yield from _unknown(body.stream_options, "stream_options")
    for number, message in enumerate(body.messages):
        yield from _unknown(message, f"messages[{number}]")
        if isinstance(message.content, list):
            for index, part in enumerate(message.content):
                place = f"messages[{number}].content[{index}]"
                yield from _unknown(part, place)
                for name, inner in part:
                    if isinstance(inner, BaseModel):
                        yield from _unknown(inner, f"{place}.{name}")


def _unknown(part: BaseModel, place: str) -> Iterator[str]:
    for name, value in (part.model_extra or {}).items():
        if not (_nothing(value) or (name == "detail" and value == "auto")):
            yield f"{place}.{_told(name)}"


def _sent(body: ChatRequest) -> dict[str, Any]:
    return {**{name: getattr(body, name) for name in type(body).model_fields}, **(body.model_extra or {})}


def _told(name: str) -> str:
    """A name that a client made up, fit for a header."""
    return _UNPRINTABLE.sub("?", name[:64])
