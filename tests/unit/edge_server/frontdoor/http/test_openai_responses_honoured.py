"""OpenAI's request for a response, field by field and item by item: honoured, refused or told of."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import pytest
from openai.types.responses import (
    EasyInputMessageParam,
    ResponseInputAudioParam,
    ResponseInputFileParam,
    ResponseInputImageParam,
    ResponseInputTextParam,
    ResponseOutputMessageParam,
    ResponseOutputRefusalParam,
    ResponseOutputTextParam,
    response_create_params,
    response_input_param,
)
from pydantic import BaseModel, ValidationError

from edge_server.errors import InvalidQuestionError
from edge_server.frontdoor.http.openai_responses_honoured import (
    HONOURED,
    NO_EFFECT,
    REFUSED,
    check_honoured,
    ignored,
)
from edge_server.frontdoor.http.openai_responses_schema import (
    InputFile,
    InputImage,
    InputText,
    MessageItem,
    PassedOver,
    ResponsesRequest,
    SaidText,
    ToolOutput,
)
from edge_server.frontdoor.http.openai_schema import AudioPart, RefusalPart

FIELDS = {
    name
    for each in (
        response_create_params.ResponseCreateParamsNonStreaming,
        response_create_params.ResponseCreateParamsStreaming,
    )
    for name in get_type_hints(each)
}
SOMETHING: dict[str, Any] = {"background": True, "tool_choice": "required", "service_tier": "flex"}
"""Values of fields that are refused, or have no effect, only with some."""
HINTS = {name for name, is_fine in NO_EFFECT.items() if is_fine(object())}
"""What changes no answer, whatever it is."""
ITEMS = {
    get_args(get_type_hints(item)["type"])[0]: item
    for item in get_args(response_input_param.ResponseInputItemParam)
    if item is not response_input_param.ItemReference
}
REFUSED_ITEMS = {"compaction", "compaction_trigger"}


def request(*items: Any, **more: Any) -> ResponsesRequest:
    return ResponsesRequest.model_validate({"model": "m", "input": list(items) or "what plays?", **more})


def test_every_field_has_its_place() -> None:
    assert not FIELDS - {*HONOURED, *NO_EFFECT, *REFUSED}
    assert not HONOURED & {*NO_EFFECT, *REFUSED}
    assert {
        "max_tool_calls",
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


@pytest.mark.parametrize("kind", sorted(ITEMS))
def test_every_kind_of_item_is_read_told_or_refused(kind: str) -> None:
    if kind in REFUSED_ITEMS:
        with pytest.raises(ValidationError, match=kind):
            request({"type": kind})
        return
    filled = {"type": kind, "id": "x", "role": "user", "content": "x", "output": "x"}
    (item,) = request(filled).input
    assert isinstance(item, MessageItem | ToolOutput | PassedOver)
    assert isinstance(item, PassedOver) == (ignored(request(filled))[:1] == ["input[0]"])


@pytest.mark.parametrize("kind", [EasyInputMessageParam, ResponseOutputMessageParam])
def test_fields_of_messages_are_read(kind: Any) -> None:
    assert not set(get_type_hints(kind)) - set(MessageItem.model_fields)


@pytest.mark.parametrize(
    ("kind", "read", "told"),
    [
        (ResponseInputTextParam, InputText, {"prompt_cache_breakpoint"}),
        (ResponseInputImageParam, InputImage, {"detail", "prompt_cache_breakpoint"}),
        (ResponseInputFileParam, InputFile, {"detail", "prompt_cache_breakpoint"}),
        (ResponseInputAudioParam, AudioPart, set()),
        (ResponseOutputTextParam, SaidText, set()),
        (ResponseOutputRefusalParam, RefusalPart, set()),
    ],
)
def test_fields_of_parts_are_read_or_told(kind: Any, read: type[BaseModel], told: set[str]) -> None:
    unread = set(get_type_hints(kind)) - set(read.model_fields)
    assert unread == told
    (name,) = get_args(get_type_hints(kind)["type"])
    filled = {
        "type": name,
        "text": "x",
        "refusal": "x",
        "input_audio": {"data": "x", "format": "wav"},
    }
    known = {key: value for key, value in filled.items() if key in read.model_fields}
    for field in sorted(told):
        body = request({"role": "user", "content": [{**known, field: "y"}]})
        assert ignored(body) == [f"input[0].content[0].{field}"]


def test_parts_of_what_tools_said_are_told_where_they_stood() -> None:
    part = {"type": "input_text", "text": "x", "made_up": 1}
    assert ignored(request({"type": "function_call_output", "call_id": "c", "output": [part]})) == [
        "input[0].output[0].made_up"
    ]


def test_an_answer_that_comes_back_is_taken_as_it_was() -> None:
    body = request(
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "phase": None,
            "content": [
                {"type": "output_text", "text": "x", "annotations": [{"a": 1}], "logprobs": [{"token": "x"}]}
            ],
        }
    )
    assert ignored(body) == []


def test_what_is_without_a_type_is_a_message_or_a_reference() -> None:
    check_honoured(request({"role": "user", "content": "x", "id": "msg_1", "type": None}))
    with pytest.raises(InvalidQuestionError, match="nothing is kept here") as refused:
        check_honoured(request({"role": "user", "content": "x"}, {"id": "msg_1"}))
    assert refused.value.field == "input[1]"
