"""A checkpoint that was split, served and asked through both doors, says what its own class generates."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from PIL import Image

from device_agent.agent import Agent
from device_agent.bundle.bundle import load_bundle
from device_agent.compose import open_agent
from device_agent.config import DeviceSettings
from device_agent.media.loading import clip_from_file
from edge_server.export.split import SplitOptions, split_model
from edge_server.server.app import Server
from edge_server.server.config import ServerConfig
from edge_server.server.loading import load_served
from tests.tiny_families import TINY, Conversation, Tiny, picture

QUESTION = "what is shown?"
TOKENS = 12


@dataclass(frozen=True)
class Split:
    tiny: Tiny
    folder: Path

    def generated(self, question: str, media: Any = None) -> str:
        """What the checkpoint's own class says; half of a character at its end, cut there, is none."""
        text = str(self.tiny.tokenizer.decode(self.tiny.answer(question, media, TOKENS), True))
        return text.rstrip("\ufffd")


@dataclass(frozen=True)
class Asked:
    split: Split
    http: httpx.AsyncClient
    grpc: str


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    torch.manual_seed(0)
    at = tmp_path_factory.mktemp("split")
    tiny = TINY["llava"](at / "checkpoint")
    split_model(at / "checkpoint", at / "model", SplitOptions(name="mine"))
    return Split(tiny, at / "model")


@pytest.fixture
async def served(split: Split) -> AsyncIterator[Asked]:
    settings = {
        "model": split.folder,
        "model_runner_processes": False,
        "batches": 1,
        "grpc_port": 0,
        "rest_port": 0,
        "ui": "off",
    }
    config = ServerConfig.model_validate(settings)
    backend = load_served(config)
    server = Server(config, backend)
    addresses = await server.start()
    try:
        async with httpx.AsyncClient(base_url=addresses.rest, timeout=60) as http:
            yield Asked(split, http, addresses.grpc)
    finally:
        await server.stop()
        backend.close()


@pytest.fixture
async def agent(served: Asked) -> AsyncIterator[Agent]:
    settings = DeviceSettings(
        server=served.grpc,
        bundle=served.split.folder / "bundle",
        channel="none",
        payload="float32",
        max_new_tokens=TOKENS,
        pace=False,
        tls=False,
    )
    async with open_agent(settings, load_bundle(settings.bundle)) as opened:
        yield opened


async def test_an_agent_is_told_what_its_own_class_generates(
    served: Asked, agent: Agent, tmp_path: Path
) -> None:
    for number in range(3):
        file = tmp_path / f"{number}.png"
        Image.fromarray(picture(number)).save(file)
        shown = await agent.ask(QUESTION, clip_from_file(file, spec=agent.media_spec))
        assert shown.text == served.split.generated(QUESTION, picture(number))
    assert (await agent.ask(QUESTION)).text == served.split.generated(QUESTION)


async def test_a_client_of_openais_api_is_told_what_its_own_class_generates(served: Asked) -> None:
    for number in range(3):
        said = await chat(served, [user(QUESTION, picture(number))])
        assert said == served.split.generated(QUESTION, picture(number))
    assert await chat(served, [user(QUESTION)]) == served.split.generated(QUESTION)


async def test_a_conversation_is_a_conversation_to_its_own_class(served: Asked) -> None:
    first, second = picture(1), picture(2)
    answer = "a red square"
    messages = [
        {"role": "system", "content": "say little."},
        user(QUESTION, first),
        {"role": "assistant", "content": answer},
        user("how many people are there in both?", second, first),
    ]
    turns: Conversation = [
        ("system", ["say little."]),
        ("user", [first, QUESTION]),
        ("assistant", [answer]),
        ("user", [second, first, "how many people are there in both?"]),
    ]
    expected = served.split.tiny.tokenizer.decode(served.split.tiny.conversation(turns, TOKENS), True)
    assert await chat(served, messages) == expected
    # Again, over what was kept of it; and piece by piece.
    assert await chat(served, messages) == expected
    body = {"model": "mine", "messages": messages, "max_completion_tokens": TOKENS, "stream": True}
    async with served.http.stream("POST", "/v1/chat/completions", json=body) as streamed:
        lines = [line async for line in streamed.aiter_lines() if line.startswith("data: {")]
    pieces = [choice["delta"] for line in lines for choice in json.loads(line[6:])["choices"]]
    assert "".join(piece.get("content") or "" for piece in pieces) == expected


async def test_too_many_pictures_are_refused_by_name(served: Asked) -> None:
    body = {"model": "mine", "messages": [user(QUESTION, *[picture(1, 8, 8)] * 33)]}
    refused = await served.http.post("/v1/chat/completions", json=body)
    assert refused.status_code == 400
    assert "at most 32" in refused.json()["error"]["message"]
    assert refused.json()["error"]["param"].startswith("messages[0].content[32]")


def user(text: str, *pictures: Any) -> dict[str, Any]:
    """A turn that shows pictures, and then asks."""
    shown = [{"type": "image_url", "image_url": {"url": data_url(each)}} for each in pictures]
    return {"role": "user", "content": [*shown, {"type": "text", "text": text}]}


def data_url(pixels: Any) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


async def chat(served: Asked, messages: list[dict[str, Any]]) -> str:
    body = {"model": "mine", "messages": messages, "max_completion_tokens": TOKENS}
    answered = await served.http.post("/v1/chat/completions", json=body)
    assert answered.status_code == 200, answered.text
    text: str = answered.json()["choices"][0]["message"]["content"]
    return text
