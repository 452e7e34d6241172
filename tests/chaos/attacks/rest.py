"""Attacks on the REST door: bodies, trailers, headers, connections, texts."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from tests.chaos.attacks.target import Target

_PATHS = (
    *("/livez", "/", "/v1/infer", "/metrics", "/readyz", "/openapi.json", "/docs"),
    *("/v1/chat/completions", "/v1/responses"),
)
_BODY_BYTES = 16 * 2**20 - 16
_PART = 256 * 1024
_GIVE_UP_S = 10.0
_JSON = "Content-Type: application/json"


async def many(target: Target, count: int, once: Callable[[Target, int], Coroutine[Any, Any, None]]) -> None:
    """Do something over and over, so many times at once, until it is enough."""

    async def go_on(number: int) -> None:
        for turn in itertools.count(number, count):
            if not target.goes_on:
                return
            try:
                async with asyncio.timeout(target.left_s + 0.1):
                    await once(target, turn)
            except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
                target.counts[type(error).__name__] += 1
            await asyncio.sleep(0)

    await asyncio.gather(*(go_on(number) for number in range(count)))


async def _sent(writer: asyncio.StreamWriter, data: bytes, parts: int) -> None:
    for _ in range(parts):
        if writer.transport.is_closing():
            raise ConnectionResetError
        writer.write(data)
        await writer.drain()


async def _answer(target: Target, reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(_GIVE_UP_S):
        line = await reader.readline()
    target.counts[line.split(b" ")[1].decode() if line.count(b" ") > 1 else "closed"] += 1


async def deep_bodies(target: Target) -> None:
    """Bodies of brackets, digits and strings without end, where they belong and where they do not."""
    fillers = (b"]", b"[", b"1 ", b'"', b"{", b'{"a":')

    async def once(target: Target, turn: int) -> None:
        filler = fillers[turn % len(fillers)]
        data = filler * (_PART // len(filler))
        length = f"Content-Length: {_BODY_BYTES // _PART * len(data)}"
        method = ("POST", "PUT", "GET")[turn % 3 if turn % 5 == 0 else 0]
        async with target.line() as (reader, writer):
            writer.write(target.head(method, _PATHS[turn % len(_PATHS)], _JSON, length))
            with contextlib.suppress(ConnectionError):
                await _sent(writer, data, _BODY_BYTES // _PART)
            await _answer(target, reader)

    await many(target, 6, once)


async def trailers(target: Target) -> None:
    """Trailers, chunk extensions and header lines that do not end."""

    async def once(target: Target, turn: int) -> None:
        path = _PATHS[turn % len(_PATHS)]
        begun = target.head("POST", path, _JSON, "Transfer-Encoding: chunked")
        async with target.line() as (_, writer):
            match turn % 4:
                case 0:
                    writer.write(begun + b"2\r\n{}\r\n0\r\n")
                    piece = b"a: b\r\n" * 5000
                case 1:
                    writer.write(begun + b"2\r\n{}\r\n0\r\na: ")
                    piece = b"b" * 30_000
                case 2:
                    writer.write(begun + b"2;")
                    piece = b"x" * 30_000
                case _:
                    writer.write(target.head("GET", path)[:-2])
                    piece = b"x-a: " + b"b" * 200 + b"\r\n"
            await _sent(writer, piece, 2000)

    await many(target, 6, once)


async def unfinished_bodies(target: Target) -> None:
    """Bodies of which all but the end is sent, many at once, and held."""

    async def once(target: Target, turn: int) -> None:
        path = ("/v1/infer", "/v1/chat/completions", "/livez", "/")[turn % 4]
        async with target.line() as (reader, writer):
            writer.write(target.head("POST", path, _JSON, f"Content-Length: {_BODY_BYTES}"))
            with contextlib.suppress(ConnectionError):
                await _sent(writer, b" " * _PART, _BODY_BYTES // _PART - 1)
            await reader.read(1)
            await asyncio.sleep(min(5.0, target.left_s))

    await many(target, 40, once)


async def unread_answers(target: Target) -> None:
    """Requests sent ahead, their answers not read."""

    async def once(target: Target, turn: int) -> None:
        path = ("/openapi.json", "/metrics", "/livez", "/docs")[turn % 4]
        async with target.line() as (_, writer):
            await _sent(writer, target.head("GET", path), 2000)
            await asyncio.sleep(min(5.0, target.left_s))

    await many(target, 20, once)


async def connections(target: Target) -> None:
    """As many connections as there can be, held: silent ones, half a handshake, half a request."""

    async def once(target: Target, turn: int) -> None:
        door = ("rest", "grpc")[turn % 2]
        async with target.line(door=door, bare=turn % 3 > 0) as (reader, writer):
            writer.write((b"", b"\x16\x03\x01\x02\0\x01\0", b"GET / HT")[turn % 3])
            target.counts[f"{door}: opened"] += 1
            await reader.read(1)

    await many(target, 600, once)


async def wrong_keys(target: Target) -> None:
    """Keys that are none, each another; names and sites that are not the server's."""

    async def once(target: Target, turn: int) -> None:
        async with target.line() as (reader, writer):
            for number in range(50):
                wrong = f"Authorization: Bearer tokenlink-{turn:012x}-{number}"
                other = f"Host: evil{number}.example" if number % 2 else "Origin: https://evil.example"
                writer.write(target.head("GET", "/v1/models", wrong, *((other,) if turn % 2 else ())))
            await writer.drain()
            await _answer(target, reader)

    await many(target, 8, once)


@functools.cache
def _long_bodies() -> Sequence[bytes]:
    """Questions, contexts, system messages, addresses of media: as long as a body may be."""
    made = []
    for text in (b"banjo ", b"x", b"a1. ", "ü".encode()):
        long = text * (15_000_000 // len(text))
        made += [b'{"question": "%s"}' % long, b'{"question": "x", "context": "%s"}' % long]
    chat = b'{"model": "m", "messages": [{"role": "user", "content": %s}]}'
    address = b"data:video/mp4" + b";a" * 7_000_000
    made.append(chat % (b'[{"type": "video_url", "video_url": {"url": "%s"}}]' % address))
    made.append(chat % (b'"%s"' % (b"x " * 7_000_000)))
    return made


async def long_texts(target: Target) -> None:
    """Texts that go on and on."""
    rng = random.Random(1)
    ready = _long_bodies()

    async def once(target: Target, turn: int) -> None:
        body = rng.choice(ready)
        path = "/v1/chat/completions" if b'"messages"' in body[:40] else "/v1/infer"
        async with target.line() as (reader, writer):
            writer.write(target.head("POST", path, _JSON, f"Content-Length: {len(body)}"))
            with contextlib.suppress(ConnectionError):
                for at in range(0, len(body), _PART):
                    await _sent(writer, body[at : at + _PART], 1)
            await _answer(target, reader)

    await many(target, 4, once)
