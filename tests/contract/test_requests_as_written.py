"""Requests as clients and proxies in the field write them: other spellings of what the routes know."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.contract.conftest import Running
from tests.waiting import PATIENCE_S

ASKED = {"model": "weightless", "messages": [{"role": "user", "content": "ab"}]}
BODY = json.dumps(ASKED).encode()
HOST = b"Host: localhost\r\nContent-Type: application/json\r\n"
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"


@pytest.fixture
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=running.addresses.rest, timeout=PATIENCE_S) as client:
        served = (await client.get("/v1/models")).json()["data"][0]["id"]
        assert served == ASKED["model"]
        yield client


async def exchanged(running: Running, *pieces: bytes) -> tuple[bytes, bytes]:
    """Head and body of what comes back until the connection is closed; each piece is a packet of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.addresses.rest_port)
    async with httpx.AsyncClient(base_url=running.addresses.rest, timeout=PATIENCE_S) as other:
        for piece in pieces:
            writer.write(piece)
            # Who is answered meanwhile shows that the piece has been read.
            assert (await other.get("/livez")).status_code == 200
    async with asyncio.timeout(PATIENCE_S):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head.lower(), body


async def test_slashes_too_many_lead_to_the_same_place_without_a_redirect(client: httpx.AsyncClient) -> None:
    for path in ("/v1/chat/completions/", "//v1/chat/completions", "/v1//chat///completions//"):
        answered = await client.post(f"http://127.0.0.1:{client.base_url.port}{path}", json=ASKED)
        assert answered.status_code == 200
        assert answered.json()["choices"][0]["message"]["content"] == "2"
    asked = {"model": "weightless", "input": "ab"}
    answered = await client.post(f"http://127.0.0.1:{client.base_url.port}//v1/responses/", json=asked)
    assert answered.json()["output"][0]["content"][0]["text"] == "2"


async def test_head_is_get_without_its_body(client: httpx.AsyncClient) -> None:
    for path in ("/", "/livez", "/v1/models", "/v1/models/weightless", "/docs", "/nowhere"):
        got, asked = await client.get(path), await client.head(path)
        assert asked.status_code == got.status_code
        assert asked.headers["content-type"] == got.headers["content-type"]
        assert int(asked.headers["content-length"]) == len(got.content)
        assert not asked.content


async def test_what_can_be_read_says_that_it_answers_head(client: httpx.AsyncClient) -> None:
    assert (await client.put("/v1/models")).headers["allow"] == "GET, HEAD"
    assert (await client.head("/v1/infer")).status_code == 405


async def test_a_base_url_without_v1_is_told_where_the_api_is(client: httpx.AsyncClient) -> None:
    for method, path in (
        ("POST", "/chat/completions"),
        ("GET", "/models"),
        ("POST", "/api/chat"),
        ("POST", "/responses"),
    ):
        refused = await client.request(method, path, json=None if method == "GET" else ASKED)
        assert refused.status_code == 404
        assert "there are " in refused.json()["error"]["message"]
        assert "POST /v1/chat/completions" in refused.json()["error"]["message"]


async def test_a_compressed_body_is_refused_by_its_header(client: httpx.AsyncClient) -> None:
    kind = {"content-type": "application/json"}
    squeezed = gzip.compress(BODY)
    refused = await client.post(
        "/v1/chat/completions", content=squeezed, headers={**kind, "content-encoding": "gzip"}
    )
    assert (refused.status_code, refused.headers["accept-encoding"]) == (415, "identity")
    assert "Content-Encoding is 'gzip'" in refused.json()["error"]["message"]
    plain = await client.post(
        "/v1/chat/completions", content=BODY, headers={**kind, "content-encoding": "identity"}
    )
    assert plain.status_code == 200


async def test_a_stream_to_http_1_0_has_no_chunks_and_ends_with_its_connection(running: Running) -> None:
    body = json.dumps({**ASKED, "stream": True}).encode()
    head, events = await exchanged(
        running,
        b"POST /v1/chat/completions HTTP/1.0\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(body) + body,
    )
    assert b"transfer-encoding" not in head
    assert events.startswith(b"data: {")
    assert events.endswith(b"data: [DONE]\n\n")


async def test_an_answer_of_known_length_to_http_1_0_says_it(running: Running) -> None:
    head, body = await exchanged(running, b"GET /v1/models HTTP/1.0\r\nHost: localhost\r\n\r\n")
    assert b"content-length: %d" % len(body) in head


def h2c(body: bytes, framing: bytes) -> bytes:
    return b"POST /v1/chat/completions HTTP/1.1\r\n" + HOST + H2C + framing + b"\r\n" + body


LENGTH = h2c(BODY, b"Content-Length: %d\r\n" % len(BODY))
CHUNKS = h2c(b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY), b"Transfer-Encoding: chunked\r\n")
LAST = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("asked", [LENGTH, CHUNKS], ids=["length", "chunks"])
@pytest.mark.parametrize("cut", [None, 20, -20, "headers"])
async def test_a_body_beside_the_offer_of_http_2_is_read(
    running: Running, asked: bytes, cut: int | str | None
) -> None:
    at = asked.index(b"\r\n\r\n") + 4 if cut == "headers" else cut
    pieces = (asked,) if at is None else (asked[:at], asked[at:])
    _, rest = await exchanged(running, *pieces, LAST)
    first, _, second = rest.partition(b"HTTP/1.1 200 OK")
    assert json.loads(first)["choices"][0]["message"]["content"] == "2"
    assert b'"object":"list"' in second


async def test_offers_of_http_2_sent_ahead_are_all_read(running: Running) -> None:
    _, rest = await exchanged(running, LENGTH + CHUNKS + LENGTH + LAST)
    assert rest.count(b'"content":"2"') == 3


async def test_a_delta_has_no_role_but_the_first(client: httpx.AsyncClient) -> None:
    streamed = await client.post("/v1/chat/completions", json={**ASKED, "stream": True})
    deltas = [
        json.loads(line.removeprefix("data: "))["choices"][0]["delta"]
        for line in streamed.text.splitlines()
        if line.startswith("data: {")
    ]
    assert deltas == [{"role": "assistant", "content": ""}, {"content": "2"}, {"content": None}]
