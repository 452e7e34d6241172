"""What of OpenAI's request for a response is honoured here, refused, or has no effect; nothing in silence.

As :mod:`edge_server.frontdoor.http.openai_honoured` does it for chats: what has no effect is named in the
header and in ``warnings``. The table is in docs/openai.md, and is held to this module by a test.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edge_server.errors import InvalidQuestionError
from edge_server.frontdoor.http.openai_honoured import (
    NoEffect,
    Refused,
    nothing,
    one_of,
    refuse,
    shortened,
    unknown,
    unknown_within,
    without_effect,
)
from edge_server.frontdoor.http.openai_responses_schema import (
    LOGPROBS,
    Item,
    ItemReference,
    PassedOver,
    ResponsesRequest,
    ToolOutput,
)

HONOURED = frozenset(ResponsesRequest.model_fields)
"""Fields that are taken at their word; ``text`` only as plain text."""

_NO_TOOL = one_of("none", "auto")

NO_EFFECT: NoEffect = {
    "access_programs": nothing,
    "background_options": nothing,
    "context_management": nothing,
    "image": nothing,
    "max_tool_calls": lambda value: True,  # there are no tools to call
    "parallel_tool_calls": lambda value: True,
    "prompt_cache_key": lambda value: True,  # hints; answers do not depend on them
    "prompt_cache_options": lambda value: True,
    "prompt_cache_retention": lambda value: True,
    "reasoning": one_of({"effort": "none"}),
    "service_tier": one_of("auto", "default"),
    "store": nothing,
    "tool_choice": _NO_TOOL,
    "tools": nothing,
}
"""Fields that are known and have no effect, each with the values at which there is nothing to tell."""

_NOT_KEPT = "nothing is kept here, from one request to the next"

REFUSED: Refused = {
    "background": (nothing, "asks to be answered later; answers come with the request here"),
    "conversation": (nothing, f"names a conversation; {_NOT_KEPT}: send its items as input"),
    "moderation": (nothing, "is not done here; leave it out"),
    "previous_response_id": (nothing, f"names an answer; {_NOT_KEPT}: send earlier turns as input"),
    "prompt": (nothing, f"names a template; {_NOT_KEPT}: send its text as instructions and input"),
    "tool_choice": (_NO_TOOL, "asks for a tool; there are none here"),
}
"""Fields that would change what an answer is: with other values than these the request is refused."""


def check_honoured(body: ResponsesRequest) -> None:
    """Refuse what would make another answer than this server gives.

    Raises:
        InvalidQuestionError: names the field.
    """
    refuse(body, REFUSED)
    if body.top_logprobs and not body.wants_logprobs:
        raise InvalidQuestionError(
            "top_logprobs", f"is {body.top_logprobs}, and include does not name {LOGPROBS!r}"
        )
    if body.text is not None and body.text.format is not None and body.text.format.type != "text":
        raise InvalidQuestionError("text.format", f"is {body.text.format.type[:64]!r}; allowed: 'text'")
    if body.every and body.wants_logprobs:
        raise InvalidQuestionError("every", f"gives one answer for each window: leave out {LOGPROBS!r}")
    for number, item in enumerate(_items(body)):
        if isinstance(item, ItemReference):
            raise InvalidQuestionError(
                f"input[{number}]",
                f"refers to an item that was sent before; {_NOT_KEPT}: send the item itself, as clients do "
                "that are told 'store': false",
            )


def ignored(body: ResponsesRequest, left_out: Sequence[str] = ()) -> list[str]:
    """The fields of a request that have no effect, as paths, at most a few; the rest are counted.

    Args:
        body: the request.
        left_out: turns that did not fit, as paths.
    """
    return shortened([*_ignored(body), *left_out])


def _ignored(body: ResponsesRequest) -> Iterator[str]:
    yield from without_effect(body, REFUSED, NO_EFFECT)
    if body.draws_in_vain:
        yield "top_p"
    for number, name in enumerate(body.include or ()):
        if name != LOGPROBS:
            yield f"include[{number}]"
    if body.stream_options is not None:
        yield from unknown(body.stream_options, "stream_options")
    if body.text is not None:
        yield from unknown_within(body.text, "text")
    for number, item in enumerate(_items(body)):
        place = f"input[{number}]"
        if isinstance(item, PassedOver):
            yield place
            continue
        yield from unknown(item, place)
        if isinstance(item, ItemReference):
            continue
        content, name = (item.output, "output") if isinstance(item, ToolOutput) else (item.content, "content")
        for index, part in enumerate(content if isinstance(content, list) else ()):
            yield from unknown_within(part, f"{place}.{name}[{index}]")


def _items(body: ResponsesRequest) -> Sequence[Item]:
    return body.input if isinstance(body.input, list) else ()
