"""OpenAI's request, field by field: each is honoured, refused or told of, none silently dropped."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import pytest
from openai.types import chat
from openai.types.chat import completion_create_params
from openai.types.chat.chat_completion_assistant_message_param import ContentArrayOfContentPart

from edge_server.errors import InvalidQuestionError
from edge_server.frontdoor.http.openai_honoured import (
    HONOURED,
    NO_EFFECT,
    REFUSED,
    check_honoured,
    ignored,
)
from edge_server.frontdoor.http.openai_schema import ChatRequest, Message, StreamOptions

ASK = {"role": "user", "content": "what plays?"}
FIELDS = {
    name
    for each in (
        completion_create_params.CompletionCreateParamsNonStreaming,
        completion_create_params.CompletionCreateParamsStreaming,
    )
    for name in get_type_hints(each)
}
SOMETHING: dict[str, Any] = {
    "modalities": ["audio"],
    "tool_choice": "required",
    "function_call": {"name": "f"},
    "service_tier": "flex",
}
"""Values of fields that are refused, or have no effect, only with some."""
HINTS = {name for name, is_fine in NO_EFFECT.items() if is_fine(object())}
"""What changes no answer, whatever it is."""


def request(**more: Any) -> ChatRequest:
    return ChatRequest.model_validate({"model": "m", "messages": [ASK], **more})


def test_every_field_has_its_place() -> None:
    assert not FIELDS - {*HONOURED, *NO_EFFECT, *REFUSED}
    assert not HONOURED & {*NO_EFFECT, *REFUSED}
    assert {
        "parallel_tool_calls",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
    } == HINTS


@pytest.mark.parametrize("name", sorted(FIELDS - HONOURED))
def test_what_is_not_honoured_is_refused_or_told(name: str) -> None:
    body = request(**{name: SOMETHING.get(name, {"a": 1})})
    if name in REFUSED:
        with pytest.raises(InvalidQuestionError) as refused:
            check_honoured(body)
        assert refused.value.field == name
    else:
        check_honoured(body)
        assert ignored(body) == ([] if name in HINTS else [name])


MESSAGES = [
    each for each in vars(chat).items() if each[0].endswith("MessageParam") and isinstance(each[1], type)
]


@pytest.mark.parametrize(("name", "kind"), MESSAGES)
def test_fields_of_messages_are_read_or_told(name: str, kind: Any) -> None:
    hints = get_type_hints(kind)
    (role,) = get_args(hints["role"])
    for field in set(hints) - set(Message.model_fields):
        body = request(messages=[{"role": role, "content": "x", field: "y"}, ASK])
        assert ignored(body) == [f"messages[0].{field}"]


def parts() -> list[Any]:
    found = [*get_args(chat.ChatCompletionContentPartParam), *get_args(ContentArrayOfContentPart)]
    return list(dict.fromkeys(found))


SENT: dict[str, dict[str, Any]] = {
    "text": {"text": "x"},
    "refusal": {"refusal": "x"},
    "image_url": {"image_url": {"url": "x"}},
    "input_audio": {"input_audio": {"data": "x", "format": "wav"}},
}
"""Parts of messages that are read; ``file`` is refused by its name."""


def test_every_kind_of_part_is_known() -> None:
    assert {get_args(get_type_hints(part)["type"])[0] for part in parts()} == {*SENT, "file"}


@pytest.mark.parametrize("part", parts(), ids=lambda part: str(part.__name__))
def test_fields_of_parts_are_read_or_told(part: Any) -> None:
    hints = get_type_hints(part)
    (kind,) = get_args(hints["type"])
    if kind not in SENT:
        return
    place = "messages[0].content[0]"
    for field in set(hints) - {"type", *SENT[kind]}:
        body = request(
            messages=[{"role": "user", "content": [{"type": kind, **SENT[kind], field: "y"}]}, ASK]
        )
        assert ignored(body) == [f"{place}.{field}"]
    for name, inner in SENT[kind].items():
        if isinstance(inner, dict):
            for field in set(get_type_hints(hints[name])) - set(inner):
                sent = {"type": kind, name: {**inner, field: "y"}}
                body = request(messages=[{"role": "user", "content": [sent]}, ASK])
                assert ignored(body) == [f"{place}.{name}.{field}"]


def test_options_of_streams_are_read_or_told() -> None:
    for field in set(get_type_hints(chat.ChatCompletionStreamOptionsParam)) - set(StreamOptions.model_fields):
        assert ignored(request(stream_options={field: True})) == [f"stream_options.{field}"]


def test_a_refusal_of_a_turn_before_is_text_of_the_conversation() -> None:
    (turn, _) = request(
        messages=[{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}, ASK]
    ).messages
    assert isinstance(turn.content, list)
    assert turn.content[0].text == "no"  # type: ignore[union-attr]
