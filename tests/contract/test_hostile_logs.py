"""What was asked, shown, sent and answered is nobody's business but the asker's: no log, no label has it."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import re
from collections.abc import AsyncIterator

import httpx
import numpy as np
import pytest

from edge_server.server.logs import JsonFormatter
from protos import payload
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.contract.conftest import Running
from tests.waiting import PATIENCE_S
from tests.weightless import BUNDLE_HASH, CHANNEL_DIM, WeightlessModel

QUESTION = "whereisthezanzibarsecret"
CONTEXT = "mumblecaption of the privateroom"
ANSWER = "underthefloorboards"
SECRETS = (QUESTION, CONTEXT.split()[0], ANSWER)
VALUE = 0.123456789
"""In every block; no log has its digits, nor its bytes in any coding."""


@pytest.fixture
def model() -> WeightlessModel:
    return WeightlessModel(answer=lambda prompt: ANSWER)


@pytest.fixture
def log() -> object:
    """Every line that this process logs, as the server writes it, at every level."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(1)
    yield written
    root.removeHandler(handler)
    root.setLevel(before)


@pytest.fixture
async def http(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=running.addresses.rest, timeout=PATIENCE_S) as client:
        yield client


def block(dtype: str = "float32") -> pb.TokenPayload:
    return payload.encode(np.full((4, CHANNEL_DIM), VALUE, np.float32), "video", dtype)


def forms_of(data: bytes) -> list[str]:
    """Ways in which bytes end up in a line of text."""
    piece = data[:24]
    shown = repr(piece)[2:-1]
    return [base64.b64encode(piece).decode()[:16], piece.hex(), shown, repr(list(piece))[1:-1]]


async def talk(running: Running, http: httpx.AsyncClient) -> None:
    """Questions that are answered, refused at every stage, cancelled, failed in the model."""
    ids = [number % 900 + 1 for number in QUESTION.encode()]
    opened = await running.stub.OpenSession(
        pb.OpenSessionRequest(device_id="camera", bundle_hash=BUNDLE_HASH)
    )

    def frame(request_id: str, *, bundle_hash: str = BUNDLE_HASH, **changes: object) -> pb.UplinkFrame:
        asked = pb.Question(request_id=request_id, payloads=[block()], question_ids=ids, context_ids=ids)
        for name, value in changes.items():
            setattr(asked, name, value)
        return pb.UplinkFrame(session_id=opened.session_id, bundle_hash=bundle_hash, question=asked)

    wrong = frame("wrong")
    wrong.question.payloads[0].crc32 ^= 1
    nan = frame("nan")
    nan.question.payloads[0].CopyFrom(
        pb.TokenPayload(
            modality=pb.MODALITY_AUDIO,
            dtype=pb.DTYPE_FLOAT32,
            shape=[1, CHANNEL_DIM],
            data=np.full(CHANNEL_DIM, np.nan, "<f4").tobytes(),
        )
    )
    frames = [
        frame("q1"),
        wrong,
        nan,
        frame("other", bundle_hash="cd" * 32),
        frame("many", max_new_tokens=2**30),
    ]
    frames.append(pb.UplinkFrame(session_id="nobody", cancel=pb.Cancel(request_id="q1")))
    async for _ in running.stub.Converse(iter(frames)):
        pass
    call = running.stub.Ask(
        pb.AskRequest(
            session_id=opened.session_id, bundle_hash=BUNDLE_HASH, question=frame("cancelled").question
        )
    )
    call.cancel()
    raw = running.channel.stream_stream("/tokenlink.v1.TokenLink/Converse")
    async for _ in raw(iter([b"\x07" + QUESTION.encode()])):
        pass

    sent = {
        "modality": "video",
        "dtype": "float32",
        "shape": [4, CHANNEL_DIM],
        "data": base64.b64encode(block().data).decode(),
    }
    bodies: list[dict[str, object]] = [
        {"question": QUESTION, "context": CONTEXT, "blocks": [sent]},
        {"question": QUESTION, "context": CONTEXT, "blocks": [sent | {"shape": [3, 3]}]},
        {"question": QUESTION, "media": [{"type": "image", "data": sent["data"]}]},
        {"question": QUESTION, "media": [{"type": "image", "data": QUESTION}]},
        {"question": [QUESTION]},
        {"question": QUESTION, "temperature": CONTEXT},
    ]
    for body in bodies:
        await http.post("/v1/infer", json=body)
    message = {"role": "user", "content": QUESTION}
    for chat in (
        {"model": "weightless", "messages": [{"role": "system", "content": CONTEXT}, message]},
        {"model": "weightless", "messages": [message], "stream": True},
        {"model": "weightless", "messages": [message], "tools": [QUESTION]},
        {"model": "weightless", "messages": [{"role": QUESTION, "content": CONTEXT}]},
    ):
        await http.post("/v1/chat/completions", json=chat)
    await http.post("/v1/infer", content=f'{{"question": "{QUESTION}'.encode())

    def fault(rows: object) -> None:
        raise RuntimeError("the model broke")

    running.model.prefill_fault = fault
    assert (await http.post("/v1/infer", json=bodies[0])).status_code == 500
    async for _ in running.stub.Converse(iter([frame("q2")])):
        pass
    running.model.prefill_fault = lambda rows: None


async def test_no_log_line_and_no_label_has_what_was_asked_sent_or_answered(
    running: Running, http: httpx.AsyncClient, log: io.StringIO
) -> None:
    asyncio.get_running_loop().set_debug(False)
    await talk(running, http)
    exposition = (await http.get("/metrics")).text
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    server_lines = "\n".join(json.dumps(line) for line in lines if not line["logger"].startswith("httpx"))
    # The log is heard at all: sessions, and the model that broke, with its traceback.
    assert "session opened" in server_lines
    assert "the model broke" in server_lines
    for name, text in (("log", server_lines), ("metrics", exposition)):
        for secret in SECRETS:
            assert secret.lower() not in text.lower(), f"{secret} in the {name}"
        for form in forms_of(block().data) + forms_of(block("float16").data) + ["0.1234567", "zanzibar"]:
            assert form not in text, f"{form} in the {name}"
        ids = ", ".join(str(number % 900 + 1) for number in QUESTION.encode()[:4])
        assert ids not in text, f"language token ids in the {name}"


async def test_labels_are_a_few_known_words(running: Running, http: httpx.AsyncClient) -> None:
    await talk(running, http)
    exposition = "\n".join(
        line for line in (await http.get("/metrics")).text.splitlines() if line.startswith("tokenlink_")
    )
    assert 'outcome="answered"' in exposition
    for values in re.findall(r"\{([^}]*)\}", exposition):
        for name, value in re.findall(r'(\w+)="([^"]*)"', values):
            # The server's own names and numbers, or one of a few words; nothing that a client chose.
            assert name in {
                "outcome",
                "kind",
                "reason",
                "what",
                "modality",
                "le",
                "version",
                "model",
                "bundle_hash",
            }, name
            assert re.fullmatch(r"[a-z_]+|\+Inf|[0-9.e+-]+|[0-9a-f]{64}", value), value
