"""Connections that trickle: each is cut within its time, and others are answered meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.authority import Pki, make_pki
from tests.contract.conftest import Running
from tests.contract.test_device_certificates import rejections
from tests.waiting import PATIENCE_S, until, until_true
from tests.weightless import BUNDLE_HASH

RECEIVE_S = 1.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
# Of 16,000 bytes, without an end of headers, on stream 1; what follows is all of its own.
HEADERS = bytes([0, 0x3E, 0x80, 1, 0, 0, 0, 0, 1])

HOST = b" HTTP/1.1\r\nHost: localhost\r\n"
BODY_HEAD = b"POST /v1/infer" + HOST + b"Content-Type: application/json\r\nContent-Length: 5000\r\n\r\n"
GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def settings() -> dict[str, object]:
    return {"receive_s": RECEIVE_S}


async def cut(port: int, at_once: bytes, byte: bytes, *, tls: ssl.SSLContext | None = None) -> None:
    """Send something, then one byte after the other, until the server bears with it no longer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    ended = asyncio.create_task(drained(reader))
    try:
        writer.write(at_once)
        async with asyncio.timeout(PATIENCE_S):
            while not ended.done():
                with contextlib.suppress(ConnectionError):
                    writer.write(byte)
                    await writer.drain()
                await asyncio.wait({ended}, timeout=0.1)
    finally:
        writer.transport.abort()
        await ended


async def drained(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        while await reader.read(65_536):
            pass


async def honest(running: Running, ended: asyncio.Future[object]) -> int:
    """How many honest questions were answered until something has ended; at least one is asked."""
    answered = 0
    async with httpx.AsyncClient(base_url=running.addresses.rest, timeout=PATIENCE_S) as http:
        while not ended.done():
            assert (await http.post("/v1/infer", json={"question": "ab"})).json()["answer"] == "2"
            answered += 1
            await asyncio.wait({ended}, timeout=0.05)
    return answered


WAYS = {
    "http, nothing": ("rest", b"", b""),
    "http, headers byte by byte": ("rest", b"GET / HTTP/1.1\r\nA: ", b"b"),
    "http, headers without end": ("rest", b"GET / HTTP/1.1\r\n", b"A: b\r\n"),
    "http, second request's headers": ("rest", GET + b"GET / HTTP/1.1\r\nA: ", b"b"),
    "http, body after its answer": ("rest", BODY_HEAD.replace(b"/v1/infer", b"/nowhere") + b" ", b" "),
    "http, body byte by byte": ("rest", BODY_HEAD, b" "),
    "grpc, nothing": ("grpc", b"", b""),
    "grpc, half a preface": ("grpc", PREFACE[:5], b""),
    "grpc, no call": ("grpc", PREFACE + SETTINGS, b""),
    "grpc, a call's headers byte by byte": ("grpc", PREFACE + SETTINGS + HEADERS, b"\0"),
}


@pytest.mark.parametrize("way", WAYS)
async def test_fifty_slow_connections_are_cut_and_others_answered(running: Running, way: str) -> None:
    door, at_once, byte = WAYS[way]
    port = running.addresses.rest_port if door == "rest" else running.addresses.grpc_port
    slow = asyncio.gather(*(cut(port, at_once, byte) for _ in range(50)))
    assert await honest(running, slow) > 0
    await slow
    if door == "rest" and "nothing" not in way:
        assert rejections(running, "slow_sender") >= 50.0


async def test_who_sends_is_not_blamed_for_a_server_that_stood_still(running: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.addresses.rest_port)
    writer.write(GET[:10])
    # An answer over another connection: by now, what was sent over this one has been read.
    async with httpx.AsyncClient(base_url=running.addresses.rest, timeout=PATIENCE_S) as http:
        assert (await http.get("/livez")).status_code == 200
    await both_stand_still()
    writer.write(GET[10:])
    assert b" 200 " in await reader.readuntil(b"\r\n")
    writer.close()


async def both_stand_still() -> None:
    """As on a machine that is busy with something else."""
    goes_on_s = time.monotonic() + RECEIVE_S * 1.3
    until_true(lambda: time.monotonic() > goes_on_s)
    turns = itertools.count()
    await until(lambda: next(turns) > 2)  # its timers have come due


@pytest.mark.parametrize("kind", ["application/json", "application/octet-stream"])
async def test_nor_is_who_sends_a_body(running: Running, kind: str) -> None:
    body = b'{"question": "ab"}'
    head = (
        f"POST /v1/infer HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", running.addresses.rest_port)
    writer.write(head.encode() + body[:5])
    async with httpx.AsyncClient(base_url=running.addresses.rest, timeout=PATIENCE_S) as http:
        assert (await http.get("/livez")).status_code == 200
    await both_stand_still()
    writer.write(body[5:])
    said = await reader.readuntil(b"\r\n")
    assert b" 408 " not in said
    assert (b" 200 " in said) == (kind == "application/json")
    writer.close()
    assert rejections(running, "slow_sender") == 0.0


async def test_nor_is_who_sends_a_call(running: Running) -> None:
    open_session = running.channel.stream_unary("/tokenlink.v1.TokenLink/OpenSession")
    go_on = asyncio.Event()

    async def later() -> AsyncIterator[bytes]:
        await go_on.wait()
        yield pb.OpenSessionRequest(device_id="camera", bundle_hash=BUNDLE_HASH).SerializeToString()

    call = open_session(later())
    # Another over the same connection: by now, this one is waited for.
    assert await running.stub.OpenSession(
        pb.OpenSessionRequest(device_id="microphone", bundle_hash=BUNDLE_HASH)
    )
    await both_stand_still()
    go_on.set()
    assert pb.OpenSessionResponse.FromString(await call).session_id
    assert rejections(running, "slow_sender") == 0.0


async def test_headers_without_bound_are_cut_by_their_size(running: Running) -> None:
    await cut(running.addresses.rest_port, b"GET / HTTP/1.1\r\nA: ", b"b" * 30_000)
    assert rejections(running, "too_large") == 1.0
    assert rejections(running, "slow_sender") == 0.0


async def test_a_slow_body_is_told_so(running: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.addresses.rest_port)
    writer.write(BODY_HEAD + b"  ")
    answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
    assert b" 408 " in answer.splitlines()[0]
    assert b"did not arrive within 1 s; 2 bytes of it did" in answer
    writer.close()


async def test_a_call_whose_request_does_not_come_is_ended(running: Running) -> None:
    open_session = running.channel.stream_unary("/tokenlink.v1.TokenLink/OpenSession")

    async def never() -> object:
        await asyncio.Event().wait()
        yield b""

    call = open_session(never())
    assert (await call.code()).name == "DEADLINE_EXCEEDED"
    stream = running.stub.Converse()
    with pytest.raises(asyncio.TimeoutError):
        async with asyncio.timeout(0.1):
            await stream.read()
    assert rejections(running, "slow_sender") == 1.0


async def test_a_stream_that_began_may_rest_between_questions(running: Running) -> None:
    opened = await running.stub.OpenSession(
        pb.OpenSessionRequest(device_id="camera", bundle_hash=BUNDLE_HASH)
    )
    open_session = running.channel.stream_unary("/tokenlink.v1.TokenLink/OpenSession")

    async def never() -> object:
        await asyncio.Event().wait()
        yield b""

    call = running.stub.Converse()
    for request_id in ("q1", "q2"):
        question = pb.Question(request_id=request_id, question_ids=[1, 2])
        await call.write(
            pb.UplinkFrame(session_id=opened.session_id, bundle_hash=BUNDLE_HASH, question=question)
        )
        while (part := await call.read()).WhichOneof("body") == "delta":
            pass
        assert part.answer.text == "2"
        # Meanwhile a call that has brought nothing at all is ended.
        assert (await open_session(never()).code()).name == "DEADLINE_EXCEEDED"


class TestTls:
    @pytest.fixture
    def pki(self, tmp_path: Path) -> Pki:
        return make_pki(tmp_path / "certs")

    @pytest.fixture
    def settings(self, pki: Pki) -> dict[str, object]:
        return pki.settings(enrol=True) | {"receive_s": RECEIVE_S}

    async def test_handshakes_that_do_not_go_on_are_cut(self, running: Running, pki: Pki) -> None:
        where = running.addresses
        hello = bytes([22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3])
        ports = (where.rest_port, where.grpc_port, where.enrol_port or 0)
        await asyncio.gather(
            *(cut(port, first, b"") for port in ports for first in (b"", hello) for _ in range(5))
        )
        trust = ssl.create_default_context(cadata=pki.root.decode())
        await cut(where.rest_port, b"GET / HTTP/1.1\r\nA: ", b"b", tls=trust)
        assert rejections(running, "slow_sender") >= 1.0
