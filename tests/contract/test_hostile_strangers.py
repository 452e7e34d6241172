"""What somebody without a key, or with one, can make the REST door keep in memory: little, and counted."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from edge_server.frontdoor.http.body_limit import BodyLimit
from edge_server.frontdoor.http.slow_connections import MAX_HEADERS, MAX_SENT_AHEAD
from tests.contract.conftest import Running
from tests.contract.test_device_certificates import rejections
from tests.waiting import PATIENCE_S

HELD_BYTES = 256 * 1024
SHARE = 0.5
HEAD = b"%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD % (b"POST", b"/v1/infer") + b"Transfer-Encoding: chunked\r\n\r\n"
QUESTION = json.dumps({"question": "ab"}).encode()


@pytest.fixture
def settings() -> dict[str, object]:
    return {"max_held_bytes": HELD_BYTES, "share_of_one": SHARE, "max_connections": 40}


@dataclass
class Line:
    """A connection to the REST door, byte by byte."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def status(self) -> int:
        """Of the next answer, its headers and body read."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
        lines = head.lower().split(b"\r\n")
        length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length")), 0)
        await self.reader.readexactly(length)
        return int(lines[0].split()[1])

    async def ended(self) -> None:
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE_S):
                while await self.reader.read(65_536):
                    pass


@contextlib.asynccontextmanager
async def line(running: Running, address: str = "127.0.0.1") -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", running.addresses.rest_port, local_addr=(address, 0)
    )
    try:
        yield Line(reader, writer)
    finally:
        writer.transport.abort()


async def healthy(running: Running) -> None:
    """An honest question is answered, and afterwards nothing is held for anybody."""
    async with httpx.AsyncClient(base_url=running.addresses.rest, timeout=PATIENCE_S) as http:
        assert (await http.post("/v1/infer", json={"question": "ab"})).json()["answer"] == "2"
    await running.until(lambda: running.server.bounds.held_bytes.held == 0)
    await running.until(lambda: running.server.bounds.connections.held == 0)


class TestBodiesWhereNoneBelong:
    @pytest.mark.parametrize("path", [b"/livez", b"/readyz", b"/metrics", b"/", b"/docs", b"/elsewhere"])
    @pytest.mark.parametrize("length", [b"Content-Length: 16777216", b"Transfer-Encoding: chunked"])
    async def test_they_are_refused_before_a_byte_of_them_came(
        self, running: Running, path: bytes, length: bytes
    ) -> None:
        async with line(running) as stranger:
            await stranger.send(HEAD % (b"POST", path) + length + b"\r\n\r\n")
            assert await stranger.status() == (404 if path == b"/elsewhere" else 413)
        assert rejections(running, "no_body_here") == 1.0

    async def test_an_empty_one_is_none(self, running: Running) -> None:
        async with line(running) as stranger:
            await stranger.send(HEAD % (b"GET", b"/livez") + b"Content-Length: 0\r\n\r\n")
            assert await stranger.status() == 200

    async def test_what_comes_after_none_is_that_the_client_went(self, running: Running) -> None:
        """What is built on this asks for a second message, and takes nothing else there."""
        messages: list[str] = []

        async def noting(scope: Scope, receive: Receive, send: Send) -> None:
            messages.extend([(await receive())["type"], (await receive())["type"]])

        come = iter([{"type": "http.request"}, {"type": "http.disconnect"}])

        async def receive() -> Message:
            return next(come)

        async def send(message: Message) -> None:
            raise AssertionError(message)

        limited = BodyLimit(
            noting,
            max_bytes=1,
            within_s=1.0,
            limits=running.server.cell.limits,
            held=running.server.bounds.held_bytes,
            uploads=running.server.bounds.uploads,
            max_upload_bytes=1,
            folder=None,
            takes_body=lambda method, path: False,
            is_there=lambda path: True,
            refused=running.server.metrics.rejected,
        )
        await limited({"type": "http", "method": "GET", "path": "/", "headers": []}, receive, send)
        assert messages == ["http.request", "http.disconnect"]


class TestOneConnection:
    async def test_trailers_are_no_headers_and_their_bytes_are_bounded(self, running: Running) -> None:
        async with line(running) as stranger:
            body = b"%x\r\n%s\r\n0\r\nContent-Type: text/plain\r\n\r\n" % (len(QUESTION), QUESTION)
            await stranger.send(CHUNKED + body)
            assert await stranger.status() == 200
        async with line(running) as stranger:
            await stranger.send(CHUNKED + b"2\r\n{}\r\n0\r\n")
            with contextlib.suppress(ConnectionError):
                for _ in range(2_000):
                    await stranger.send(b"a: b\r\n" * 500)
                pytest.fail("six megabytes of trailers were read")
        assert rejections(running, "too_large") == 1.0
        await healthy(running)

    async def test_so_is_the_value_of_one_trailer(self, running: Running) -> None:
        async with line(running) as stranger:
            await stranger.send(CHUNKED + b"2\r\n{}\r\n0\r\na: ")
            with contextlib.suppress(ConnectionError):
                for _ in range(2_000):
                    await stranger.send(b"b" * 3000)
                pytest.fail("six megabytes of a trailer were read")
        await healthy(running)

    async def test_header_lines_are_bounded(self, running: Running) -> None:
        async with line(running) as stranger:
            head = HEAD % (b"GET", b"/livez")
            await stranger.send(head + b"a: b\r\n" * (MAX_HEADERS - 2) + b"\r\n")
            assert await stranger.status() == 200
            await stranger.send(head + b"a: b\r\n" * (MAX_HEADERS - 1) + b"\r\n")
            assert await stranger.status() == 400
            await stranger.ended()

    async def test_so_are_requests_sent_ahead(self, running: Running) -> None:
        running.model.gate.close()
        question = HEAD % (b"POST", b"/v1/infer") + b"Content-Length: %d\r\n\r\n" % len(QUESTION) + QUESTION
        async with line(running) as stranger:
            await stranger.send(question + (HEAD % (b"GET", b"/livez") + b"\r\n") * (MAX_SENT_AHEAD + 2))
            assert await stranger.status() == 400
            await stranger.ended()
        running.model.gate.open()
        await healthy(running)


class TestBytesOfEverybody:
    async def test_bodies_that_do_not_end_add_up_and_the_next_is_refused(self, running: Running) -> None:
        held = running.server.bounds.held_bytes
        part = HELD_BYTES // 4
        unfinished = HEAD % (b"POST", b"/v1/infer") + b"Content-Length: 1000000\r\n\r\n" + b" " * part
        async with contextlib.AsyncExitStack() as stack:
            for count in (1, 2):
                one = await stack.enter_async_context(line(running))
                await one.send(unfinished)
                await running.until(lambda count=count: held.held == count * part)  # type: ignore[misc]
            greedy = await stack.enter_async_context(line(running))
            await greedy.send(unfinished)
            assert await greedy.status() == 429
            # Another address has its share.
            for _ in range(2):
                other = await stack.enter_async_context(line(running, "127.0.0.2"))
                await other.send(unfinished)
            await running.until(lambda: held.held == 4 * part)
            third = await stack.enter_async_context(line(running, "127.0.0.3"))
            await third.send(unfinished)
            assert await third.status() == 429
            assert held.held == HELD_BYTES
        assert rejections(running, "held_bytes") == 2.0
        await healthy(running)

    async def test_one_address_cannot_take_every_connection(self, running: Running) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(20):
                await stack.enter_async_context(line(running))
            await running.until(lambda: running.server.bounds.connections.held == 20)
            refused = await stack.enter_async_context(line(running))
            assert await refused.status() == 503
            await refused.ended()
            other = await stack.enter_async_context(line(running, "127.0.0.2"))
            await other.send(HEAD % (b"GET", b"/livez") + b"\r\n")
            assert await other.status() == 200
        await healthy(running)


class TestText:
    """Far too long ones: refused by their bytes, before a thread or a tokenizer sees them."""

    @pytest.fixture
    def settings(self) -> dict[str, object]:
        return {"max_batch_positions": 20_000}

    @pytest.fixture
    async def http(self, running: Running) -> AsyncIterator[httpx.AsyncClient]:
        async with httpx.AsyncClient(base_url=running.addresses.rest, timeout=PATIENCE_S) as http:
            yield http

    @pytest.mark.parametrize("text", ["x" * 20_000, "word " * 200_000, "ü" * 10_000])
    async def test_by_their_field_and_untouched(
        self, running: Running, http: httpx.AsyncClient, text: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[str] = []
        ingest = running.server.backends.current.served.ingest
        monkeypatch.setattr(ingest, "_prepare", lambda *given: seen.append(given[1]))
        chat = [{"role": "system", "content": text}, {"role": "user", "content": "ab"}]
        for path, asked, field in (
            ("/v1/infer", {"question": text}, "question"),
            ("/v1/infer", {"question": "ab", "context": text}, "context"),
            ("/v1/chat/completions", {"model": "weightless", "messages": chat}, "messages"),
        ):
            refused = await http.post(path, json=asked)
            assert refused.status_code == 400
            assert refused.json()["error"]["param"] == field
        alone = [{"role": "user", "content": text}]
        refused = await http.post("/v1/chat/completions", json={"model": "weightless", "messages": alone})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "messages[0].content")
        assert refused.json()["error"]["code"] == "context_length_exceeded"
        assert "16384 bytes" in refused.json()["error"]["message"]
        assert seen == []

    async def test_as_long_as_it_may_be_is_answered(self, http: httpx.AsyncClient) -> None:
        for length, status in ((16_384, 200), (16_385, 400)):
            answered = await http.post("/v1/infer", json={"question": "ab", "context": "x" * length})
            assert answered.status_code == status

    @pytest.mark.parametrize("head", ["data:video/mp4" + ";a" * 4_000_000, "data:" + "a" * 8_000_000, "d"])
    async def test_the_head_of_a_data_url_is_short(self, http: httpx.AsyncClient, head: str) -> None:
        part = {"type": "video_url", "video_url": {"url": head}}
        content = [{"type": "text", "text": "ab"}, part]
        asked = {"model": "weightless", "messages": [{"role": "user", "content": content}]}
        refused = await http.post("/v1/chat/completions", json=asked)
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "messages[0].content[1].video_url.url"

    async def test_a_block_longer_than_any_is_not_decoded(self, http: httpx.AsyncClient) -> None:
        block = {"modality": "video", "dtype": "float32", "shape": [4, 8], "data": "A" * 2_000_000}
        refused = await http.post("/v1/infer", json={"question": "ab", "blocks": [block]})
        assert refused.status_code == 413
        assert refused.json()["error"]["param"] == "blocks[0].data"
        assert "no block takes more than" in refused.json()["error"]["message"]
