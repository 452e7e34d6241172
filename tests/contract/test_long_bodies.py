"""Bodies within their size that cost more than their size: bounded before the look, and told in short."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.contract.conftest import Running
from tests.contract.test_grpc_contract import Device, question, refusal
from tests.waiting import PATIENCE_S
from tests.weightless import BUNDLE_HASH

LONG = "A" * 3_000_000
ASK = {"role": "user", "content": "x"}


@pytest.fixture
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=running.addresses.rest, timeout=PATIENCE_S) as client:
        yield client


def chat(*messages: Any, **more: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/chat/completions", {"model": "weightless", "messages": list(messages), **more}


def response(*items: Any, **more: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/responses", {"model": "weightless", "input": list(items), **more}


def infer(**more: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/infer", {"question": "x", **more}


BODIES = {
    "a kind of part": (
        chat({"role": "user", "content": [{"type": LONG}]}),
        "messages[0].content[0].type",
        "",
    ),
    "a role": (chat({"role": LONG, "content": "x"}), "messages[0].role", ""),
    "a name": (infer(**{LONG: 1}), "AAAA", ""),
    "a model": (chat(ASK, model=LONG), "model", ""),
    "a user": (chat(ASK, user=LONG), "user", "at most 128"),
    "a modality": (infer(media=[{"type": LONG, "data": "x"}]), "media[0].type", ""),
    "a text": (chat({"role": "user", "content": LONG}), "messages[0].content", "3000000 bytes"),
    "turns": (chat({"role": "user", "content": LONG}, ASK), "messages", "bytes"),
    "messages": (chat(*[{"role": 1}] * 8000), "messages", "8000 messages; at most 1024"),
    "parts": (
        chat({"role": "user", "content": [{"type": "x"}] * 8000}),
        "messages[0].content",
        "8000 parts; at most 256",
    ),
    "items": (response(*[{"role": 1}] * 8000), "input", "8000 items; at most 1023"),
    "an item": (response({"type": LONG}), "input[0].type", ""),
    "parts of an item": (
        response({"role": "user", "content": [{"type": "x"}] * 8000}),
        "input[0].content",
        "8000 parts; at most 256",
    ),
    "a file": (
        response({"role": "user", "content": [{"type": "input_file", "file_data": LONG}]}),
        "input[0].content[0].file_data",
        "",
    ),
    "metadata": (response(ASK, metadata={"a": LONG}), "metadata.a", "at most 512"),
    "an instruction": (response(ASK, instructions=LONG), "input", "bytes"),
    "a format": (response(ASK, text={"format": {"type": LONG}}), "text.format", "allowed"),
    "a name of include": (response(ASK, include=[1] * 8000), "include", "8000 names; at most 16"),
    "stops": (chat(ASK, stop=[1] * 8000), "stop", "8000 texts; at most 4"),
    "biases": (
        chat(ASK, logit_bias={f"a{number}": "x" for number in range(8000)}),
        "logit_bias",
        "8000 tokens; at most 1024",
    ),
    "files": (infer(media=[{}] * 8000), "media", "8000 files; at most 4"),
    "blocks": (infer(blocks=[{}] * 8000), "blocks", "8000 blocks; at most 4"),
}


@pytest.mark.parametrize("what", BODIES)
async def test_what_is_wrong_is_told_in_short(client: httpx.AsyncClient, what: str) -> None:
    (path, body), param, words = BODIES[what]
    refused = await client.post(path, json=body)
    assert refused.status_code in (400, 404)
    error = refused.json()["error"]
    assert error["param"].startswith(param)
    assert words in error["message"]
    assert len(refused.content) < 2048


async def test_biases_over_grpc_are_counted_first(running: Running) -> None:
    opened = await running.stub.OpenSession(
        pb.OpenSessionRequest(device_id="camera", bundle_hash=BUNDLE_HASH, snr_db=10.0)
    )
    sampling = pb.Sampling(logit_bias=[pb.LogitBias(token_id=1, bias=1.0)] * 2000)
    _, details, _ = await refusal(Device(running, opened.session_id).ask(question("q", sampling=sampling)))
    assert details.startswith("sampling.logit_bias: holds 2000 tokens; at most 1024")
