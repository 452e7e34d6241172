"""What clients of OpenAI's API send, as ``python -m tests.clients --record`` has recorded it, sent again.

Their environments take minutes to make; their requests take none.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai.types.responses import Response

from edge_server.engine.ports import PromptTooLongError
from edge_server.frontdoor.http.openai_honoured import HEADER
from tests.contract.conftest import Running
from tests.contract.test_rest_contract import b64, png, wav
from tests.waiting import PATIENCE_S

RECORDED = Path(__file__).parents[1] / "clients" / "recorded"
MOST_CONTEXT_IDS = 1024


def with_media(body: Any) -> Any:
    """The body with media again, where it stood."""
    if isinstance(body, list):
        return [with_media(each) for each in body]
    if not isinstance(body, dict):
        return body
    found = {key: with_media(value) for key, value in body.items()}
    for key, data in (
        ("url", b64(png())),
        ("image_url", b64(png())),
        ("data", b64(wav())),
        ("file_data", b64(wav())),
    ):
        if isinstance(found.get(key), str):
            found[key] = found[key].replace("MEDIA", data)
    return found


def shows_video(body: Any) -> bool:
    return "video/mp4" in json.dumps(body)


@pytest.fixture
def settings() -> dict[str, object]:
    return {"leave_out_oldest": True}


@pytest.fixture
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=running.addresses.rest, timeout=PATIENCE_S) as client:
        yield client


def test_every_client_was_recorded() -> None:
    assert {path.stem for path in RECORDED.glob("*.json")} == {
        "openai-python",
        "openai-python-responses",
        "litellm",
        "langchain",
        "langchain-responses",
        "ai-sdk-openai",
        "ai-sdk-responses",
        "ai-sdk-openai-compatible",
        "open-webui-requests",
    }


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.json")), ids=lambda path: str(path.stem))
async def test_it_is_taken(
    running: Running, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    check = running.model.check

    def short(prompt: Any) -> int:
        if len(prompt.context_ids) > MOST_CONTEXT_IDS:
            raise PromptTooLongError("context_ids", len(prompt.context_ids), MOST_CONTEXT_IDS)
        return check(prompt)

    monkeypatch.setattr(running.model, "check", short)
    requests = json.loads(path.read_text())["requests"]
    assert len(requests) >= 10
    for number, sent in enumerate(requests):
        await send_again(client, sent, f"request {number}")


def check_response(answered: httpx.Response, body: Any, what: str) -> None:
    if not body.get("stream"):
        Response.model_validate(answered.json())
        assert answered.json()["status"] == (
            "incomplete" if body.get("max_output_tokens") else "completed"
        ), what
        return
    events = [json.loads(line[6:]) for line in answered.text.splitlines() if line.startswith("data: ")]
    assert (events[0]["type"], events[-1]["type"]) == ("response.created", "response.completed"), what


async def send_again(client: httpx.AsyncClient, sent: Any, what: str) -> None:
    headers = {name: value for name, value in sent["headers"].items() if name != "transfer-encoding"}
    if "body" not in sent:
        listed = await client.request(sent["method"], sent["path"], headers=headers)
        assert [each["id"] for each in listed.json()["data"]] == ["weightless"], what
        return
    body = with_media(sent["body"])
    known = body["model"] != "gpt-7"
    answered = await client.post(
        sent["path"], json={**body, "model": "weightless" if known else body["model"]}, headers=headers
    )
    if not known:
        assert (answered.status_code, answered.json()["error"]["param"]) == (404, "model"), what
        return
    if shows_video(body):  # there is a picture where the video was, or a sound
        assert answered.json()["error"]["param"].endswith(("video_url.url", "file_data")), what
        return
    assert answered.status_code == 200, (what, answered.text)
    # Nothing that they send by themselves is without effect, but tools and what is left out of a long chat.
    told = set(answered.headers.get(HEADER, "").split(", ")) - {""}
    assert not {name for name in told if not name.startswith(("messages[", "input["))} - {"tools"}, what
    if sent["path"].endswith("/responses"):
        check_response(answered, body, what)
    elif body.get("stream"):
        events = [line for line in answered.text.splitlines() if line.startswith("data: ")]
        assert events[-1] == "data: [DONE]", what
        chunks = [json.loads(event[6:]) for event in events[:-1]]
        assert "usage" in chunks[-1] or not body.get("stream_options", {}).get("include_usage"), what
    else:
        assert len(answered.json()["choices"]) == body.get("n", 1), what
