"""A request for a response is the chat that it says, and a field of that chat is told as what was sent."""

from __future__ import annotations

from typing import Any

import pytest

from edge_server.frontdoor.http.openai_responses_schema import MOST_ITEMS, ResponsesRequest
from edge_server.frontdoor.http.openai_responses_turns import chat_of
from edge_server.frontdoor.http.openai_schema import ChatRequest, Wanted

SOUND = "data:audio/wav;base64,AAAA"
ASK = {"role": "user", "content": "what plays?"}


def request(asked: Any, **more: Any) -> ResponsesRequest:
    return ResponsesRequest.model_validate({"model": "m", "input": asked, **more})


def dumped(chat: ChatRequest) -> list[dict[str, Any]]:
    return [message.model_dump(exclude_none=True) for message in chat.messages]


def test_a_text_and_instructions_are_two_messages() -> None:
    chat, places = chat_of(request("what plays?", instructions="a stage"))
    assert dumped(chat) == [{"role": "system", "content": "a stage"}, ASK]
    assert places.words("messages[0].content") == "instructions"
    assert places.words("messages[1].content") == "input"
    assert places.words("messages") == "input"


def test_parts_become_a_chats_own_and_are_told_as_they_stood() -> None:
    window = {"start_s": 1.0}
    parts = [
        {"type": "input_text", "text": "x"},
        {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "window": window},
        {"type": "input_file", "file_data": SOUND},
        {"type": "input_file", "file_data": "data:video/mp4;base64,AAAA"},
        {"type": "video_url", "video_url": {"url": "x"}},
        {"type": "input_audio", "input_audio": {"data": "x", "format": "mp3"}},
    ]
    asked = [
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "custom_tool_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "y"}]},
        {"role": "user", "content": parts},
    ]
    chat, places = chat_of(request(asked))
    tool, user = dumped(chat)
    assert tool == {"role": "tool", "content": [{"type": "text", "text": "y"}]}
    assert [part["type"] for part in user["content"]] == [
        *("text", "image_url", "input_audio", "video_url", "video_url", "input_audio")
    ]
    assert user["content"][1]["window"]["start_s"] == 1.0
    assert user["content"][2]["input_audio"]["data"] == SOUND
    told = {
        "messages[0].content": "input[1].output",
        "messages[0].content[0].text": "input[1].output[0].text",
        "messages[1].content[1].image_url.url": "input[2].content[1].image_url",
        "messages[1].content[1].window.end_s": "input[2].content[1].window.end_s",
        "messages[1].content[2].input_audio.data": "input[2].content[2].file_data",
        "messages[1].content[3].video_url.url": "input[2].content[3].file_data",
        "messages[1].content[4].video_url.url": "input[2].content[4].video_url.url",
        "messages[1].content[5].input_audio.data": "input[2].content[5].input_audio.data",
        "messages[1].content[4].scene.device": "input[2].content[4].scene.device",
        "max_completion_tokens": "max_output_tokens",
        "temperature": "temperature",
        "stop[0]": "stop[0]",
    }
    assert {name: places.words(name) for name in told} == told


def test_how_an_answer_is_wanted_is_the_same_in_both() -> None:
    more: dict[str, Any] = {
        "stream": True,
        "user": "ann",
        "safety_identifier": "ben",
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
        "stop": ["."],
        "top_logprobs": 2,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
        "logit_bias": {"7": 1.0},
        "every": True,
    }
    assert {*more, "model"} == set(Wanted.model_fields)
    chat, _ = chat_of(request("x", **more, max_output_tokens=5, include=["message.output_text.logprobs"]))
    asked = ChatRequest.model_validate(
        {"model": "m", "messages": [{"role": "user", "content": "x"}], **more}
        | {"max_completion_tokens": 5, "logprobs": True}
    )
    assert chat == asked
    assert (chat.sampling, chat.stops, chat.new_tokens) == (asked.sampling, asked.stops, asked.new_tokens)


@pytest.mark.parametrize("role", ["system", "developer", "assistant"])
def test_roles_stay(role: str) -> None:
    chat, _ = chat_of(request([{"role": role, "content": "x"}, ASK]))
    assert [message.role for message in chat.messages] == [role, "user"]


def test_the_longest_input_has_room_beside_its_instructions() -> None:
    chat, places = chat_of(request([ASK] * MOST_ITEMS, instructions="a stage"))
    assert places.words(f"messages[{MOST_ITEMS}].content") == f"input[{MOST_ITEMS - 1}].content"
    ChatRequest.model_validate(chat.model_dump())
