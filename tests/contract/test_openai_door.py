"""What clients of OpenAI's API send beside the plain case: taken, told of, or refused by its own name."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest

from edge_server.engine.ports import PromptTooLongError
from edge_server.frontdoor.http.openai_honoured import HEADER, HONOURED, NO_EFFECT, REFUSED
from tests.contract.conftest import Running
from tests.contract.test_rest_contract import b64, png, wav
from tests.waiting import PATIENCE_S

ASK = {"role": "user", "content": "what plays?"}
IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{b64(png())}"}}


@pytest.fixture
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=running.addresses.rest, timeout=PATIENCE_S) as client:
        yield client


async def chat(client: httpx.AsyncClient, *messages: Any, **more: Any) -> httpx.Response:
    body = {"model": "weightless", "messages": messages or [ASK], **more}
    return await client.post("/v1/chat/completions", json=body)


def parts(*more: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": "what plays?"}, *more]}


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_a_longer_answer_than_there_is_may_be_allowed(
    running: Running, client: httpx.AsyncClient, name: str
) -> None:
    running.model.answer = lambda prompt: "x" * 5000
    bound = running.server.engine.config.max_new_tokens
    answered = await chat(client, **{name: 100_000})
    (choice,) = answered.json()["choices"]
    assert (answered.status_code, choice["finish_reason"]) == (200, "length")
    assert answered.json()["usage"]["completion_tokens"] == bound


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "assistant", "content": None},
        {"role": "assistant", "tool_calls": []},
        {"role": "assistant"},
        {"role": "tool", "tool_call_id": "x", "content": "a violin"},
        {"role": "assistant", "content": "no", "refusal": None, "annotations": []},
    ],
)
async def test_turns_of_a_history_are_taken_as_they_come(client: httpx.AsyncClient, turn: Any) -> None:
    assert (await chat(client, ASK, turn, ASK)).status_code == 200


async def test_options_may_be_null(client: httpx.AsyncClient) -> None:
    answered = await chat(
        client, stream_options={"include_usage": None}, temperature=None, stop=None, n=None, top_p=None
    )
    assert answered.status_code == 200
    assert HEADER not in answered.headers
    assert answered.json()["warnings"] is None


@pytest.mark.parametrize(
    ("parameters", "kind"),
    [(";codecs=vp8,opus", "video/webm"), (";codecs=opus", "audio/webm"), ("; charset=utf-8", "image/png")],
)
async def test_a_data_url_may_have_parameters(client: httpx.AsyncClient, parameters: str, kind: str) -> None:
    url = f"data:{kind}{parameters};base64,{b64(png())}"
    told = (await chat(client, parts({"type": "image_url", "image_url": {"url": url}}))).json()
    if kind == "image/png":
        assert told["choices"][0]["message"]["content"] == "11+image:16"
    else:
        assert "data URL" not in told["error"]["message"]
        assert kind.partition("/")[0] in told["error"]["message"]


async def test_base64_is_taken_as_browsers_take_it(client: httpx.AsyncClient) -> None:
    plain = b64(png())
    lines = "\r\n".join(plain[at : at + 76] for at in range(0, len(plain), 76))
    for text in (plain.rstrip("="), lines, plain.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")):
        told = await chat(
            client, parts({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{text}"}})
        )
        assert told.json()["choices"][0]["message"]["content"] == "11+image:16"


async def test_sound_may_come_as_a_data_url(client: httpx.AsyncClient) -> None:
    for kind in ("audio/wav", "", "application/octet-stream"):
        sound = {"data": f"data:{kind};base64,{b64(wav())}", "format": "wav"}
        told = await chat(client, parts({"type": "input_audio", "input_audio": sound}))
        assert told.json()["choices"][0]["message"]["content"] == "11+audio:16"
    picture = {"data": f"data:image/png;base64,{b64(png())}", "format": "wav"}
    refused = await chat(client, parts({"type": "input_audio", "input_audio": picture}))
    assert refused.json()["error"]["param"] == "messages[0].content[1].input_audio.data"


REFUSALS: dict[str, tuple[dict[str, Any], str, str]] = {
    "an unknown part": (parts({"type": "scent_url"}), "messages[0].content[1].type", "scent_url"),
    "a part without a type": (parts({"text": "x"}), "messages[0].content[1].type", "missing"),
    "a part that is none": (parts(7), "messages[0].content[1]", ""),
    "an image that is a text": (
        parts({"type": "image_url", "image_url": "data:"}),
        "messages[0].content[1].image_url",
        "",
    ),
    "no image": (parts({"type": "image_url"}), "messages[0].content[1].image_url", "required"),
    "no URL": (
        parts({"type": "image_url", "image_url": {}}),
        "messages[0].content[1].image_url.url",
        "required",
    ),
    "a format": (
        parts({"type": "input_audio", "input_audio": {"data": b64(wav()), "format": "webm"}}),
        "messages[0].content[1].input_audio.format",
        "wav",
    ),
    "content that is a number": ({"role": "user", "content": 7}, "messages[0].content", "string"),
    "text that is a number": (parts({"type": "text", "text": 7}), "messages[0].content[1].text", "string"),
    "another role": ({"role": "narrator", "content": "x"}, "messages[0].role", "user"),
    "two images": (parts(IMAGE, IMAGE), "messages", "image"),
}


@pytest.mark.parametrize("what", REFUSALS)
async def test_a_refusal_names_what_was_sent(client: httpx.AsyncClient, what: str) -> None:
    message, param, words = REFUSALS[what]
    refused = await chat(client, message)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"]) == (400, param), error
    assert words in error["message"]
    assert error["message"].startswith(param)


@pytest.mark.parametrize(
    ("field", "param"), [("context_ids", "messages"), ("question_ids", "messages[2].content")]
)
async def test_a_conversation_that_does_not_fit_is_told_in_numbers(
    running: Running, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, field: str, param: str
) -> None:
    def check(prompt: Any) -> int:
        raise PromptTooLongError(field, 101, 96)

    monkeypatch.setattr(running.model, "check", check)
    for stream in (False, True):
        refused = await chat(client, ASK, {"role": "assistant", "content": "no"}, ASK, stream=stream)
        error = refused.json()["error"]
        assert (refused.status_code, error["code"], error["param"]) == (400, "context_length_exceeded", param)
        assert error["type"] == "invalid_request_error"
        assert "96" in error["message"]
        assert "101" in error["message"]


NEUTRAL = {
    "top_p": 0.9,
    "presence_penalty": 0.0,
    "logit_bias": {},
    "seed": 7,
    "temperature": 0.7,
    "frequency_penalty": 0.5,
    "stop": ["."],
    "logprobs": True,
    "top_logprobs": 3,
    "tool_choice": "auto",
    "tools": [],
    "functions": None,
    "modalities": ["text"],
    "store": False,
    "service_tier": "auto",
    "parallel_tool_calls": True,
    "n": 1,
}
TOLD = {
    "top_p": 0.9,
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
    "functions": [{"name": "f"}],
    "reasoning_effort": "high",
    "prediction": {"type": "content", "content": "x"},
    "store": True,
    "metadata": {"a": "b"},
    "service_tier": "priority",
    "verbosity": "low",
    "made_up\r\n": 1,
}


async def test_what_changes_nothing_is_not_told(client: httpx.AsyncClient) -> None:
    answered = await chat(client, **NEUTRAL)
    assert (answered.status_code, HEADER in answered.headers) == (200, False), answered.text


async def test_what_has_no_effect_is_told(client: httpx.AsyncClient) -> None:
    image = {
        "type": "image_url",
        "image_url": {**IMAGE["image_url"], "detail": "high"},
        "cache_control": {"a": 1},
    }
    message = {**parts(image), "name": "ann"}
    expected = [*TOLD]
    expected[-1] = "made_up??"
    expected += [
        "messages[0].name",
        "messages[0].content[1].cache_control",
        "messages[0].content[1].image_url.detail",
    ]
    answered = await chat(client, message, **TOLD)
    assert answered.status_code == 200, answered.text
    assert sorted(answered.json()["warnings"]) == sorted(expected)
    assert sorted(answered.headers[HEADER].split(", ")) == sorted(expected)
    streamed = await chat(client, message, **TOLD, stream=True)
    assert streamed.headers[HEADER] == answered.headers[HEADER]
    events = [json.loads(line[6:]) for line in streamed.text.splitlines() if line.startswith("data: {")]
    assert events[0]["warnings"] == answered.json()["warnings"]
    assert all("warnings" not in event for event in events[1:])


async def test_a_flood_of_unknown_fields_is_told_in_short(client: httpx.AsyncClient) -> None:
    answered = await chat(client, **{f"unknown{number}": 1 for number in range(100)})
    assert answered.json()["warnings"][-1] == "and-80-more"
    assert len(answered.json()["warnings"]) == 21


def test_the_documents_table_is_what_is_done() -> None:
    text = (Path(__file__).parents[2] / "docs" / "openai.md").read_text()
    told = set(re.findall(r"^\| `([a-z_.]+)` \|", text.partition("\n## ")[0], re.MULTILINE))
    assert told == {*HONOURED, *NO_EFFECT, *REFUSED, "image_url.detail"}


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/"])
async def test_probes_may_ask_for_the_head_alone(client: httpx.AsyncClient, path: str) -> None:
    found = await client.head(path)
    assert (found.status_code, found.content) == (200, b"")


@pytest.mark.parametrize("path", ["/v1/infer", "/v1/chat/completions", "/v1/responses"])
@pytest.mark.parametrize("sent", [None, "text/plain"])
async def test_a_content_type_that_is_none_is_told(
    client: httpx.AsyncClient, path: str, sent: str | None
) -> None:
    content = json.dumps({"model": "weightless", "messages": [ASK], "question": "what?"})
    headers = {} if sent is None else {"Content-Type": sent}
    refused = await client.post(path, content=content, headers=headers)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"]) == (415, "Content-Type")
    assert "application/json is needed" in error["message"]


class TestFromAnotherPage:
    @pytest.fixture
    def settings(self) -> dict[str, object]:
        return {"cors_origins": ("https://app.example",)}

    async def test_a_page_that_is_named_may_ask(self, client: httpx.AsyncClient) -> None:
        for origin, allowed in (
            ("https://app.example", "https://app.example"),
            ("https://evil.example", None),
        ):
            asks = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            preflight = await client.options("/v1/chat/completions", headers=asks)
            assert preflight.headers.get("access-control-allow-origin") == allowed
            answered = await client.get("/v1/models", headers={"Origin": origin})
            assert answered.headers.get("access-control-allow-origin") == allowed


async def test_no_page_elsewhere_may_ask_unless_it_is_named(client: httpx.AsyncClient) -> None:
    answered = await client.get("/v1/models", headers={"Origin": "https://app.example"})
    assert "access-control-allow-origin" not in answered.headers


class Sources(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("src", "href") and value]


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_the_description_for_browsers_needs_nothing_from_elsewhere(
    client: httpx.AsyncClient, path: str
) -> None:
    page = await client.get(path)
    assert page.status_code == 200
    parser = Sources()
    parser.feed(page.text)
    assert len(parser.found) >= 2
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for source in parser.found:
        assert source.startswith("/"), source
        assert (await client.get(source)).status_code == 200
    assert not re.findall(r"https?://(?!127\.)[^\s\"'<]+", page.text)
