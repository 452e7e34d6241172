"""OpenAI's Responses API: its SDK, unchanged, against a real port; each answer is held to the SDK's types."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from device_agent.media.limits import MediaLimits
from edge_server.engine.ports import PromptTooLongError
from edge_server.frontdoor.http.openai_honoured import HEADER
from edge_server.frontdoor.http.openai_responses_honoured import HONOURED, NO_EFFECT, REFUSED
from edge_server.frontdoor.http.openai_responses_schema import LOGPROBS
from tests.contract.conftest import Running
from tests.contract.test_large_media import slow_motion
from tests.contract.test_rest_contract import b64, noise, png, seconds_of_silence, wav
from tests.waiting import PATIENCE_S

MODEL = "weightless"
EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
IMAGE = {"type": "input_image", "image_url": f"data:image/png;base64,{b64(png())}", "detail": "auto"}
SOUND = {"type": "input_audio", "input_audio": {"data": b64(wav()), "format": "wav"}}


@pytest.fixture
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=running.addresses.rest, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture
async def sdk(running: Running) -> AsyncIterator[openai.AsyncOpenAI]:
    client = openai.AsyncOpenAI(base_url=f"{running.addresses.rest}/v1", api_key="none", max_retries=0)
    async with client:
        yield client


def user(*parts: Any, text: str = "what plays?") -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "input_text", "text": text}, *parts]}


async def ask(client: httpx.AsyncClient, asked: Any = "what plays?", **more: Any) -> httpx.Response:
    return await client.post("/v1/responses", json={"model": MODEL, "input": asked, **more})


async def whole(client: httpx.AsyncClient, asked: Any = "what plays?", **more: Any) -> dict[str, Any]:
    """A response, as strict clients read it."""
    answered = await ask(client, asked, **more)
    assert answered.status_code == 200, answered.text
    found: dict[str, Any] = answered.json()
    Response.model_validate(found)
    return found


async def events(
    client: httpx.AsyncClient, asked: Any = "what plays?", **more: Any
) -> tuple[httpx.Response, list[dict[str, Any]]]:
    """The events of a response, as strict clients read them."""
    answered = await ask(client, asked, stream=True, **more)
    assert answered.status_code == 200, answered.text
    assert answered.headers["content-type"].startswith("text/event-stream")
    found = []
    for event in answered.text.removesuffix("\n\n").split("\n\n"):
        name, data = event.split("\n")
        told = json.loads(data.removeprefix("data: "))
        assert name == f"event: {told['type']}"
        EVENTS.validate_python(told)
        found.append(told)
    assert [each["sequence_number"] for each in found] == list(range(len(found)))
    return answered, found


def text_of(response: dict[str, Any]) -> str:
    (message,) = response["output"]
    (part,) = message["content"]
    said: str = part["text"]
    return said


async def test_text_image_and_sound_are_answered(sdk: openai.AsyncOpenAI) -> None:
    answered = await sdk.responses.create(model=MODEL, input=[user(IMAGE, SOUND)])  # type: ignore[list-item]
    assert answered.output_text == "11+image:16+audio:16"
    assert (answered.status, answered.model, answered.error) == ("completed", MODEL, None)
    assert answered.usage is not None
    assert answered.usage.input_tokens == 11 + 32
    assert answered.usage.output_tokens == len("11+image:16+audio:16")
    assert answered.usage.total_tokens == answered.usage.input_tokens + answered.usage.output_tokens
    assert answered.id.startswith("resp_")
    assert answered.output[0].id is not None
    assert answered.output[0].id.startswith("msg_")


async def test_a_text_alone_is_a_question(client: httpx.AsyncClient) -> None:
    found = await whole(client)
    assert text_of(found) == "11"
    assert found["output"][0]["status"] == "completed"
    assert found["completed_at"] >= found["created_at"]
    assert found["assurance"] == {"confidence": None, "abstained": False, "guess": None}
    assert (found["warnings"], found["incomplete_details"]) == (None, None)


async def test_what_was_asked_for_is_said_again(client: httpx.AsyncClient) -> None:
    asked = {
        "instructions": "a stage",
        "max_output_tokens": 50,
        "metadata": {"a": "b"},
        "temperature": 0.5,
        "top_p": 0.9,
        "tool_choice": "none",
        "parallel_tool_calls": False,
        "truncation": "auto",
        "user": "ann",
        "safety_identifier": "ben",
        "frequency_penalty": 0.5,
    }
    found = await whole(client, **asked)
    assert {name: found[name] for name in asked} == asked
    assert (found["tools"], found["text"]["format"], found["store"]) == ([], {"type": "text"}, False)
    bare = await whole(client)
    assert (bare["temperature"], bare["top_p"], bare["truncation"]) == (0.0, 1.0, "disabled")
    assert (bare["instructions"], bare["metadata"], bare["tool_choice"]) == (None, {}, "auto")


async def test_an_answer_streams(client: httpx.AsyncClient) -> None:
    answered, found = await events(client, [user(IMAGE)])
    assert answered.headers["x-accel-buffering"] == "no"
    assert answered.headers["cache-control"] == "no-cache"
    names = [each["type"].removeprefix("response.") for each in found]
    deltas = [each["delta"] for each in found if each["type"] == "response.output_text.delta"]
    assert names == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *["output_text.delta"] * len(deltas),
        *("output_text.done", "content_part.done", "output_item.done", "completed"),
    ]
    assert len(deltas) > 1
    assert "".join(deltas) == found[-4]["text"] == text_of(found[-1]["response"]) == "11+image:16"
    assert found[0]["response"]["output"] == []
    assert found[0]["response"]["status"] == found[1]["response"]["status"] == "in_progress"
    (item,) = found[-1]["response"]["output"]
    assert found[-2]["item"] == item
    assert {each["item_id"] for each in found if "item_id" in each} == {item["id"]}
    assert found[-1]["response"]["usage"]["output_tokens"] == len("11+image:16")
    assert found[-1]["response"]["id"] == found[0]["response"]["id"]


async def test_the_sdks_stream_helper_ends_with_the_response(sdk: openai.AsyncOpenAI) -> None:
    async with sdk.responses.stream(model=MODEL, input="what plays?") as stream:
        said = [event.delta async for event in stream if event.type == "response.output_text.delta"]
        final = await stream.get_final_response()
    assert "".join(said) == final.output_text == "11"


async def test_an_answer_that_is_cut_is_incomplete(client: httpx.AsyncClient) -> None:
    found = await whole(client, [user(IMAGE)], max_output_tokens=3)
    assert (text_of(found), found["status"]) == ("11+", "incomplete")
    assert found["incomplete_details"] == {"reason": "max_output_tokens"}
    assert (found["output"][0]["status"], found["completed_at"]) == ("incomplete", None)
    _, streamed = await events(client, [user(IMAGE)], max_output_tokens=3)
    assert streamed[-1]["type"] == "response.incomplete"
    assert streamed[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


async def test_a_longer_answer_than_there_is_may_be_allowed(
    running: Running, client: httpx.AsyncClient
) -> None:
    running.model.answer = lambda prompt: "x" * 5000
    found = await whole(client, max_output_tokens=100_000)
    assert found["usage"]["output_tokens"] == running.server.engine.config.max_new_tokens


async def test_everything_before_the_last_user_message_is_context(
    running: Running, sdk: openai.AsyncOpenAI
) -> None:
    running.model.answer = lambda prompt: (
        f"{bytes(prompt.context_ids).decode()}|{bytes(prompt.question_ids).decode()}|{len(prompt.blocks)}"
    )
    arguments: dict[str, Any] = {"model": MODEL, "instructions": "a stage", "max_output_tokens": 200}
    history: list[Any] = [user(IMAGE, text="who?")]
    first = await sdk.responses.create(**arguments, input=history)
    assert first.output_text == "a stage|who?|1"
    # As the guides have it: what came is sent back as it came.
    history += [each.model_dump() for each in first.output]
    history += [
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "a violin"},
        {"role": "user", "content": "and where?"},
    ]
    raw = await sdk.responses.with_raw_response.create(**arguments, input=history)
    assert raw.parse().output_text == "a stage\nwho?\na stage|who?|1\na violin|and where?|1"
    assert raw.headers[HEADER] == "input[2], input[3]"


@pytest.mark.parametrize(
    ("turn", "context"),
    [
        ({"role": "assistant", "content": [{"type": "output_text", "text": "x"}]}, "x"),
        ({"type": "message", "role": "assistant", "id": "msg_1", "status": "completed", "content": "x"}, "x"),
        ({"role": "assistant", "content": [{"type": "input_text", "text": "x"}]}, "x"),
        ({"role": "assistant", "content": [{"type": "refusal", "refusal": "x"}]}, "x"),
        ({"role": "assistant", "content": []}, ""),
        ({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"}, ""),
        ({"type": "function_call_output", "call_id": "c", "output": ""}, ""),
    ],
)
async def test_turns_of_a_history_are_taken_as_they_come(
    running: Running, client: httpx.AsyncClient, turn: Any, context: str
) -> None:
    running.model.answer = lambda prompt: f"{bytes(prompt.context_ids).decode()}|"
    empty = {"role": "assistant", "content": []}
    said = "\n".join(["who?", *([context] if context else [])])
    for asked in ([user(text="who?"), turn, user()], [user(text="who?"), turn, user(), empty]):
        assert text_of(await whole(client, asked)) == f"{said}|"


@pytest.mark.parametrize("kind", ["audio/wav", "image/png", "AUDIO/WAV"])
async def test_a_file_is_what_its_data_url_says(client: httpx.AsyncClient, kind: str) -> None:
    data = wav() if kind.lower().startswith("audio") else png()
    file = {"type": "input_file", "file_data": f"data:{kind};base64,{b64(data)}", "filename": "a"}
    found = await whole(client, [user(file)])
    assert text_of(found) == f"11+{kind.partition('/')[0].lower()}:16"
    assert found["warnings"] is None


REFUSALS: dict[str, tuple[Any, str, str]] = {
    "an unknown part": (user({"type": "scent_url"}), "input[0].content[1].type", "scent_url"),
    "a chat's part": (user({"type": "text", "text": "x"}), "input[0].content[1].type", "input_text"),
    "a part without a type": (user({"text": "x"}), "input[0].content[1].type", "missing"),
    "a part that is none": (user(7), "input[0].content[1]", ""),
    "an image elsewhere": (
        user({"type": "input_image", "image_url": "https://example.com/a.png"}),
        "input[0].content[1].image_url",
        "fetches nothing",
    ),
    "a broken image": (
        user({"type": "input_image", "image_url": "data:image/png;base64,AAAA"}),
        "input[0].content[1].image_url",
        "",
    ),
    "an image that is an object": (
        user({"type": "input_image", "image_url": {"url": "data:"}}),
        "input[0].content[1].image_url",
        "string",
    ),
    "no image": (user({"type": "input_image"}), "input[0].content[1].image_url", "missing"),
    "an image of before": (
        user({"type": "input_image", "file_id": "file-1"}),
        "input[0].content[1].file_id",
        "nothing is kept",
    ),
    "a file of before": (
        user({"type": "input_file", "file_id": "file-1"}),
        "input[0].content[1].file_id",
        "nothing is kept",
    ),
    "a file elsewhere": (
        user({"type": "input_file", "file_url": "https://example.com/a.mp4"}),
        "input[0].content[1].file_url",
        "fetches nothing",
    ),
    "a document": (
        user({"type": "input_file", "file_data": "data:application/pdf;base64,AAAA"}),
        "input[0].content[1].file_data",
        "data:audio/",
    ),
    "a sound that is none": (
        user({"type": "input_file", "file_data": "data:audio/wav;base64,AAAA"}),
        "input[0].content[1].file_data",
        "",
    ),
    "a video that is none": (
        user({"type": "video_url", "video_url": {"url": "data:image/png;base64,AAAA"}}),
        "input[0].content[1].video_url.url",
        "image/",
    ),
    "a window that ends first": (
        user({**SOUND, "window": {"start_s": 3, "end_s": 2}}),
        "input[0].content[1].window.end_s",
        "start_s is 3",
    ),
    "a format": (
        user({"type": "input_audio", "input_audio": {"data": b64(wav()), "format": "webm"}}),
        "input[0].content[1].input_audio.format",
        "wav",
    ),
    "two images": (user(IMAGE, IMAGE), "input", "image"),
    "no text": (user(IMAGE, text=" "), "input[0].content", "no text"),
    "content that is a number": ({"role": "user", "content": 7}, "input[0].content", "string"),
    "no content": ({"role": "user"}, "input[0].content", "required"),
    "another role": ({"role": "narrator", "content": "x"}, "input[0].role", "user"),
    "an unknown item": ({"type": "smell"}, "input[0].type", "smell"),
    "an item that is none": (7, "input[0]", ""),
    "a reference": ({"type": "item_reference", "id": "msg_1"}, "input[0]", "store"),
    "a reference without a type": ({"id": "msg_1"}, "input[0]", "nothing is kept"),
    "what was compacted": ({"type": "compaction", "encrypted_content": "x"}, "input[0].type", "compaction"),
    "nobody who asks": ({"role": "assistant", "content": "x"}, "input", "user message"),
    "nothing but thoughts": ({"type": "reasoning", "id": "rs_1", "summary": []}, "input", "user message"),
    "an image of a tool": (
        {"type": "function_call_output", "call_id": "c", "output": [IMAGE]},
        "input",
        "user message",
    ),
}


@pytest.mark.parametrize("what", REFUSALS)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_names_what_was_sent(client: httpx.AsyncClient, what: str, stream: bool) -> None:
    item, param, words = REFUSALS[what]
    refused = await ask(client, [item], stream=stream)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"]) == (400, param), error
    assert words in error["message"]
    assert error["message"].startswith(param)
    assert error["type"] == "invalid_request_error"


FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "an earlier answer": ({"previous_response_id": "resp_1"}, "previous_response_id"),
    "a conversation": ({"conversation": {"id": "conv_1"}}, "conversation"),
    "a template": ({"prompt": {"id": "pmpt_1"}}, "prompt"),
    "an answer later": ({"background": True}, "background"),
    "JSON": ({"text": {"format": {"type": "json_object"}}}, "text.format"),
    "a tool that must be called": ({"tool_choice": "required"}, "tool_choice"),
    "a hot answer": ({"temperature": 2.5}, "temperature"),
    "alternatives to nothing": ({"top_logprobs": 2}, "top_logprobs"),
    "no tokens": ({"max_output_tokens": 0}, "max_output_tokens"),
    "a truncation": ({"truncation": "middle"}, "truncation"),
    "a token that is none": ({"logit_bias": {"50256": -100}}, "logit_bias"),
    "every of nothing": ({"every": True}, "every"),
    "every with logprobs": ({"every": True, "include": [LOGPROBS]}, "every"),
    "much metadata": ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
    "an empty input": ({"input": []}, "input"),
    "an empty text": ({"input": " "}, "input"),
}


@pytest.mark.parametrize("what", FIELDS)
async def test_a_field_that_cannot_be_honoured_is_refused_by_name(
    client: httpx.AsyncClient, what: str
) -> None:
    more, param = FIELDS[what]
    refused = await client.post("/v1/responses", json={"model": MODEL, "input": "what plays?", **more})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param), refused.text


async def test_an_image_of_a_tool_is_refused_where_it_stood(client: httpx.AsyncClient) -> None:
    output = {"type": "function_call_output", "call_id": "c", "output": [IMAGE]}
    refused = await ask(client, [output, user()])
    assert refused.json()["error"]["param"] == "input[0].output[0].image_url"


async def test_input_and_model_are_needed(client: httpx.AsyncClient) -> None:
    for body, param in (({"model": MODEL}, "input"), ({"input": "x"}, "model")):
        refused = await client.post("/v1/responses", json=body)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    unknown = await ask(client, model="gpt-7")
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (404, "model")


TOLD = {
    "top_p": 0.9,
    "tools": [{"type": "function", "name": "f", "parameters": {}}],
    "reasoning": {"effort": "high"},
    "store": True,
    "service_tier": "priority",
    "context_management": [{"type": "compaction"}],
    "made_up\r\n": 1,
    "include": [LOGPROBS, "reasoning.encrypted_content"],
    "stream_options": {"include_obfuscation": True},
    "text": {"format": {"type": "text"}, "verbosity": "low"},
}
NAMED = [
    *("top_p", "tools", "reasoning", "store", "service_tier", "context_management", "made_up??"),
    *("include[1]", "stream_options.include_obfuscation", "text.verbosity"),
    *("input[0].name", "input[0].content[1].detail", "input[0].content[1].cache_control"),
]
NEUTRAL = {
    "temperature": 0.7,
    "top_p": 0.9,
    "tools": [],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "max_tool_calls": 3,
    "store": False,
    "background": False,
    "previous_response_id": None,
    "service_tier": "auto",
    "reasoning": {"effort": "none"},
    "include": [],
    "text": {"format": {"type": "text"}},
    "stream_options": {"include_obfuscation": False},
    "metadata": {"a": "b"},
    "prompt_cache_key": "x",
}


async def test_what_changes_nothing_is_not_told(client: httpx.AsyncClient) -> None:
    answered = await ask(client, [user(IMAGE)], **NEUTRAL)
    assert (answered.status_code, HEADER in answered.headers) == (200, False), answered.text


async def test_what_has_no_effect_is_told(client: httpx.AsyncClient) -> None:
    asked = [{**user({**IMAGE, "detail": "high", "cache_control": {"a": 1}}), "name": "ann"}]
    answered = await ask(client, asked, **TOLD)
    assert answered.status_code == 200, answered.text
    assert sorted(answered.json()["warnings"]) == sorted(NAMED)
    assert sorted(answered.headers[HEADER].split(", ")) == sorted(NAMED)
    streamed, found = await events(client, asked, **TOLD)
    assert streamed.headers[HEADER] == answered.headers[HEADER]
    assert found[0]["response"]["warnings"] == answered.json()["warnings"]


def test_the_documents_table_is_what_is_done() -> None:
    text = (Path(__file__).parents[2] / "docs" / "openai.md").read_text()
    (section,) = [each for each in text.split("\n## ") if each.startswith("Responses\n")]
    told = set(re.findall(r"^\| `([a-z_.]+)` \|", section, re.MULTILINE))
    assert told == {*HONOURED, *NO_EFFECT, *REFUSED, "input_image.detail"}


async def test_log_probabilities_come_where_they_are_asked_for(
    running: Running, client: httpx.AsyncClient
) -> None:
    running.model.answer = lambda prompt: "né"
    more = {"include": [LOGPROBS], "top_logprobs": 2}
    found = await whole(client, **more)
    (part,) = found["output"][0]["content"]
    assert b"".join(bytes(each["bytes"]) for each in part["logprobs"]) == "né".encode()
    assert all(len(each["top_logprobs"]) == 2 for each in part["logprobs"])
    _, streamed = await events(client, **more)
    deltas = [each for each in streamed if each["type"] == "response.output_text.delta"]
    assert [token for each in deltas for token in each["logprobs"]] == part["logprobs"]
    assert streamed[-4]["logprobs"] == part["logprobs"]
    bare = await whole(client)
    assert bare["output"][0]["content"][0]["logprobs"] == []


class Short:
    """A model that takes a context of so many tokens."""

    def __init__(self, running: Running, most: int) -> None:
        self._check, self._most = running.model.check, most

    def __call__(self, prompt: Any) -> int:
        if len(prompt.context_ids) > self._most:
            raise PromptTooLongError("context_ids", len(prompt.context_ids), self._most)
        return self._check(prompt)


@pytest.mark.parametrize("setting", [False, True])
class TestLongConversations:
    @pytest.fixture
    def settings(self, setting: bool) -> dict[str, object]:
        return {"leave_out_oldest": setting}

    async def test_a_request_says_whether_the_oldest_turns_are_left_out(
        self, running: Running, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, setting: bool
    ) -> None:
        monkeypatch.setattr(running.model, "check", Short(running, 20))
        running.model.answer = lambda prompt: bytes(prompt.context_ids).decode()
        asked = [
            {"role": "user", "content": "one two three"},
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"role": "assistant", "content": [{"type": "output_text", "text": "four"}]},
            user(),
        ]
        for truncation in ("auto", "disabled", None):
            answered = await ask(client, asked, instructions="a stage", truncation=truncation)
            if truncation == "auto" or (truncation is None and setting):
                assert text_of(answered.json()) == "a stage\nfour"
                assert answered.json()["truncation"] == "auto"
                assert answered.headers[HEADER] == "input[1], input[0].content"
            else:
                error = answered.json()["error"]
                assert answered.status_code == 400
                assert (error["code"], error["param"]) == ("context_length_exceeded", "input")
                assert "26" in error["message"]
                assert "20" in error["message"]


async def test_a_question_that_does_not_fit_is_named(
    running: Running, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(prompt: Any) -> int:
        raise PromptTooLongError("question_ids", 101, 96)

    monkeypatch.setattr(running.model, "check", check)
    for asked, param in (("x", "input"), ([{"type": "reasoning"}, user()], "input[1].content")):
        for stream in (False, True):
            error = (await ask(client, asked, stream=stream)).json()["error"]
            assert (error["code"], error["param"]) == ("context_length_exceeded", param)


async def test_a_failure_in_the_middle_of_a_stream_reaches_the_reader(
    running: Running, client: httpx.AsyncClient, sdk: openai.AsyncOpenAI
) -> None:
    def fault(rows: object) -> None:
        if any(row.said >= 3 for row in rows):  # type: ignore[attr-defined]
            raise RuntimeError("broken")

    running.model.decode_fault = fault
    stream = await sdk.responses.create(model=MODEL, input=[user(IMAGE)], stream=True)  # type: ignore[list-item]
    with pytest.raises(openai.APIError, match="broken"):
        [event async for event in stream]
    _, found = await events(client, [user(IMAGE)])
    error, failed = found[-2:]
    assert (error["type"], failed["type"]) == ("error", "response.failed")
    assert "broken" in error["message"]
    assert (error["error"]["message"], error["error"]["type"]) == (error["message"], "server_error")
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"] == {"code": "server_error", "message": error["message"]}
    refused = await ask(client, [user(IMAGE)])
    assert (refused.status_code, refused.json()["error"]["type"]) == (500, "server_error")


async def test_who_goes_away_ends_the_question(running: Running, client: httpx.AsyncClient) -> None:
    running.model.gate.close()
    engine = running.server.engine
    body = {"model": MODEL, "input": "what plays?", "stream": True}
    async with client.stream("POST", "/v1/responses", json=body) as answering:
        await anext(answering.aiter_lines())
        await running.until(lambda: engine.unanswered == 1)
    await running.until(lambda: not engine.unanswered)
    running.model.gate.open()
    await running.until(lambda: not engine.running)
    assert text_of(await whole(client)) == "11"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")],
)
async def test_nothing_is_kept_and_that_is_said(client: httpx.AsyncClient, method: str, path: str) -> None:
    answered = await whole(client)
    refused = await client.request(method, f"/v1/responses/{answered['id']}{path}")
    error = refused.json()["error"]
    assert (refused.status_code, error["param"]) == (404, "response_id")
    assert "nothing is kept here" in error["message"]
    assert answered["id"] in error["message"]


async def test_a_response_is_made_by_post_alone(client: httpx.AsyncClient) -> None:
    refused = await client.get("/v1/responses")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


class TestLargeMedia:
    @pytest.fixture
    def settings(self) -> dict[str, object]:
        return {"max_rest_body_bytes": 2**19}

    @pytest.fixture
    def media_limits(self) -> MediaLimits:
        return MediaLimits(max_bytes=2**23)

    @pytest.mark.parametrize("field", ["image_url", "file_data"])
    async def test_media_is_no_part_of_what_a_body_may_hold(
        self, client: httpx.AsyncClient, field: str
    ) -> None:
        kind = "input_image" if field == "image_url" else "input_file"
        part = {"type": kind, field: f"data:image/png;base64,{b64(noise())}"}
        assert text_of(await whole(client, [user(part)])) == "11+image:16"
        broken = {**part, field: part[field][:-40_000] + "=" + part[field][-39_999:]}
        refused = await ask(client, [user(broken)])
        assert refused.json()["error"]["param"] == f"input[0].content[1].{field}", refused.text


async def test_it_says_which_part_of_a_recording_it_is_about(client: httpx.AsyncClient) -> None:
    part = {"type": "input_audio", "input_audio": {"data": seconds_of_silence(10), "format": "wav"}}
    found = await whole(client, [user({**part, "window": {"start_s": 5}})])
    assert found["window"] == {"start_s": 5, "end_s": 9, "duration_s": 10}
    file = {"type": "input_file", "file_data": f"data:audio/wav;base64,{seconds_of_silence(10)}"}
    assert (await whole(client, [user(file)]))["window"]["end_s"] == 4


async def test_every_window_is_asked_about(client: httpx.AsyncClient) -> None:
    part = {"type": "input_file", "file_data": f"data:audio/wav;base64,{seconds_of_silence(10)}"}
    asked = [user(part, text="ab")]
    found = await whole(client, asked, every=True)
    lines = [f"{window}: 2+audio:16" for window in ("0:00 to 0:04", "0:04 to 0:08", "0:08 to 0:10")]
    assert text_of(found) == "\n".join(lines)
    assert [each["window"]["start_s"] for each in found["windows"]] == [0.0, 4.0, 8.0]
    _, streamed = await events(client, asked, every=True)
    deltas = [each for each in streamed if each["type"] == "response.output_text.delta"]
    assert "".join(each["delta"] for each in deltas) == text_of(found)
    assert [window for each in deltas for window in each["windows"]] == found["windows"]
    assert streamed[-1]["response"]["windows"] == found["windows"]
    assert streamed[-1]["response"]["usage"] == found["usage"]


async def test_a_video_may_be_a_file_or_an_extension(client: httpx.AsyncClient) -> None:
    url = f"data:video/x-matroska;base64,{b64(slow_motion(fast_s=0.1))}"
    file = {"type": "input_file", "file_data": url}
    video = {"type": "video_url", "video_url": {"url": url}}
    assert text_of(await whole(client, [user(file)])) == "11+video:16"
    assert text_of(await whole(client, [user(video)])) == "11+video:16"
