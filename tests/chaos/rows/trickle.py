"""Connections that send a byte a second, each of another kind, beside honest questions.

    head       an HTTP request that never gets to the end of its headers
    body       one whose body never does
    silence    a connection on which nothing is sent at all
    preface    an HTTP/2 connection that never gets to the end of its first line
    call       a gRPC call whose one message never arrives
    stream     a Converse stream whose first frame never arrives

A connection counts as cut when it is closed, or the call on it is ended. They come within some seconds, each
at a moment of its own: strangers do not keep step, and what the bytes of all of them at one instant cost is
another question.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import multiprocessing
import random
import statistics
import struct
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import grpc.aio
import httpx

from protos.tokenlink.v1 import tokenlink_pb2 as pb
from protos.tokenlink.v1.tokenlink_pb2_grpc import TokenLinkStub
from tests.chaos.row import Row, Scale, at_most, exactly
from tests.chaos.watched import Doors, WatchedServer

KINDS = ("head", "body", "silence", "preface", "call", "stream")
CONNECTIONS: Mapping[Scale, int] = MappingProxyType({"test": 48, "quick": 120, "full": 500})
CUT_WITHIN_S: Mapping[Scale, float] = MappingProxyType({"test": 6.0, "quick": 10.0, "full": 30.0})
RECEIVE_S: Mapping[Scale, float] = MappingProxyType({"test": 2.0, "quick": 3.0, "full": 20.0})
"""The server's own bound; at full scale as it comes."""
COMPARED_S: Mapping[Scale, float] = MappingProxyType({"test": 3.0, "quick": 3.0, "full": 20.0})
"""How long honest questions are timed without the others, each time."""
ROUNDS: Mapping[Scale, int] = MappingProxyType({"test": 1, "quick": 1, "full": 4})
"""How often both are timed, in turns."""
MOST_TIMES_SLOWER = 1.2

_BYTE_EVERY_S = 1.0
_COME_WITHIN_S = 4.0
"""All connections are there after this time [s]."""
_GIVE_UP_S = 1.5
"""Watched for so many times as long as they may last."""
_ASKERS, _PAUSE_S = 4, 0.02

_HEADERS, _DATA, _SETTINGS, _RST_STREAM, _GOAWAY = 1, 0, 4, 3, 7
_END_HEADERS, _END_STREAM = 4, 1
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclass
class Trickles:
    """What became of the slow connections: how long each lasted [s]; infinity: it was not cut."""

    lasted_s: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    def add(self, more: Trickles) -> None:
        """Take in those of another time."""
        for kind, lasted_s in more.lasted_s.items():
            self.lasted_s[kind] += lasted_s


async def run(scale: Scale, folder: Path) -> Row:
    """Honest questions alone, then beside the trickling connections until these are cut."""
    settings = {"receive_s": RECEIVE_S[scale], "arrivals_per_s": 1000, "arrivals_burst": 1000}
    count = CONNECTIONS[scale]
    give_up_s = CUT_WITHIN_S[scale] * _GIVE_UP_S
    loop = asyncio.get_running_loop()
    with (
        WatchedServer(settings) as server,
        # Not this process: honest questions are not to wait for those who attack, but for the server.
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as strangers,
    ):
        await loop.run_in_executor(strangers, _attack, server.doors, 0, give_up_s)  # imports
        await _honest(server.doors, COMPARED_S[scale])  # warm
        alone, during, trickles = Honest(), Honest(), Trickles()
        for _ in range(ROUNDS[scale]):
            alone.add(await _honest(server.doors, COMPARED_S[scale]))
            stop = asyncio.Event()
            beside = asyncio.create_task(_honest(server.doors, None, stop))
            trickles.add(await loop.run_in_executor(strangers, _attack, server.doors, count, give_up_s))
            stop.set()
            during.add(await beside)
        alive = server.alive
    lasted = [seconds for each in trickles.lasted_s.values() for seconds in each]
    late = sum(seconds > CUT_WITHIN_S[scale] for seconds in lasted)
    slower = _p99(during.times_s) / _p99(alone.times_s)
    return Row(
        "Trickling connections",
        f"{count} connections that send a byte a second, {ROUNDS[scale]} times, beside "
        f"{len(during.times_s)} honest questions",
        [
            exactly(f"not cut within {CUT_WITHIN_S[scale]:g} s", late, 0),
            # A few seconds on a busy machine say nothing of a 99th percentile.
            at_most(
                "p99 of honest questions, times as slow as alone",
                slower,
                MOST_TIMES_SLOWER if scale == "full" else 10,
            ),
            exactly("honest questions not answered", alone.wrong + during.wrong + int(not alive), 0),
        ],
        {
            "longest_s": {kind: _shown(max(each)) for kind, each in trickles.lasted_s.items() if each},
            "median_s": {
                kind: _shown(statistics.median(each)) for kind, each in trickles.lasted_s.items() if each
            },
            "p99_alone_ms": round(_p99(alone.times_s) * 1000, 2),
            "p99_beside_ms": round(_p99(during.times_s) * 1000, 2),
        },
    )


def _shown(seconds: float) -> float | str:
    return "not cut" if seconds == float("inf") else round(seconds, 1)


def _p99(times_s: list[float]) -> float:
    return statistics.quantiles(times_s, n=100)[98]


@dataclass
class Honest:
    """Honest questions: how long each took [s], and how many went wrong."""

    times_s: list[float] = field(default_factory=list)
    wrong: int = 0

    def add(self, more: Honest) -> None:
        """Take in what was found at another time."""
        self.times_s += more.times_s
        self.wrong += more.wrong


async def _honest(doors: Doors, seconds: float | None, stop: asyncio.Event | None = None) -> Honest:
    """Ask over both doors for so long, or until it is enough."""
    found = Honest()
    enough = stop or asyncio.Event()
    async with (
        grpc.aio.insecure_channel(doors.grpc) as channel,
        httpx.AsyncClient(base_url=doors.rest, timeout=30) as http,
    ):
        stub = TokenLinkStub(channel)  # type: ignore[no-untyped-call]
        opened = await stub.OpenSession(
            pb.OpenSessionRequest(device_id="honest", bundle_hash=doors.bundle_hash)
        )

        async def over_grpc(name: str) -> None:
            number = 0
            while not enough.is_set():
                number += 1
                asked = pb.Question(
                    request_id=f"{name}/{number}/{time.monotonic_ns()}", question_ids=[1, 2, 3]
                )
                request = pb.AskRequest(
                    session_id=opened.session_id, bundle_hash=doors.bundle_hash, question=asked
                )
                began = time.perf_counter()
                frames = [frame async for frame in stub.Ask(request)]
                found.times_s.append(time.perf_counter() - began)
                found.wrong += not (frames and frames[-1].HasField("answer"))
                await asyncio.sleep(_PAUSE_S)

        async def over_rest() -> None:
            while not enough.is_set():
                began = time.perf_counter()
                response = await http.post("/v1/infer", json={"question": "abc"})
                found.times_s.append(time.perf_counter() - began)
                found.wrong += response.status_code != 200
                await asyncio.sleep(_PAUSE_S)

        async with asyncio.TaskGroup() as askers:
            for number in range(_ASKERS // 2):
                askers.create_task(over_grpc(str(number)))
                askers.create_task(over_rest())
            if seconds is not None:
                await asyncio.sleep(seconds)
                enough.set()
    return found


def _attack(doors: Doors, count: int, give_up_s: float) -> Trickles:
    """So many slow connections of all kinds at once, until all are cut."""
    trickles = Trickles()

    async def attack() -> None:
        kinds = itertools.islice(itertools.cycle(KINDS), count)
        moments_s = random.Random(count)
        async with asyncio.TaskGroup() as strangers:
            for kind in kinds:
                strangers.create_task(
                    _trickle(doors, kind, moments_s.uniform(0.0, _COME_WITHIN_S), give_up_s, trickles)
                )

    asyncio.run(attack())
    return trickles


async def _trickle(doors: Doors, kind: str, after_s: float, give_up_s: float, trickles: Trickles) -> None:
    """One slow connection, from a moment on until it is cut."""
    await asyncio.sleep(after_s)
    address = doors.rest.removeprefix("http://") if kind in ("head", "body", "silence") else doors.grpc
    host, _, port = address.rpartition(":")
    began = time.monotonic()
    reader, writer = await asyncio.open_connection(host, int(port))
    sending = asyncio.create_task(_send(writer, *_bytes_of(kind)))
    try:
        async with asyncio.timeout(give_up_s):
            await (_ended(reader) if kind in ("call", "stream") else _closed(reader))
            lasted_s = time.monotonic() - began
    except TimeoutError:
        lasted_s = float("inf")
    finally:
        sending.cancel()
        writer.transport.abort()
        await asyncio.gather(sending, return_exceptions=True)
    trickles.lasted_s[kind].append(lasted_s)


def _bytes_of(kind: str) -> tuple[bytes, bytes]:
    """What is sent at once, and what then comes byte by byte, over and over."""
    match kind:
        case "head":
            return b"POST /v1/infer HTTP/1.1\r\nHost: localhost\r\n", b"X-A: b\r\n"
        case "body":
            head = b"POST /v1/infer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            return head + b"Content-Length: 100000\r\n\r\n", b" "
        case "silence":
            return b"", b""
        case "preface":
            return b"", _PREFACE[:-1]
    path = b"/tokenlink.v1.TokenLink/" + (b"Converse" if kind == "stream" else b"Ask")
    fields = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"x"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    )
    # HPACK, RFC 7541, 6.2.2: literal fields without indexing, names and values as they are.
    block = b"".join(
        b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in fields
    )
    opening = _PREFACE + _frame(_SETTINGS, 0, 0, b"") + _frame(_HEADERS, _END_HEADERS, 1, block)
    # A message of a thousand bytes, announced and begun; each frame brings one of them.
    begun = _frame(_DATA, 0, 1, b"\0" + struct.pack(">I", 1000))
    return opening + begun, _frame(_DATA, 0, 1, b"\x0a")


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    """An HTTP/2 frame (RFC 9113, 4.1)."""
    return struct.pack(">I", len(content))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + content


async def _send(writer: asyncio.StreamWriter, at_once: bytes, slowly: bytes) -> None:
    # A call's bytes come in frames of one byte each: the frame's head is no part of the message.
    piece = len(slowly) if slowly[:3] == b"\0\0\1" else 1
    with contextlib.suppress(ConnectionError):
        writer.write(at_once)
        while slowly:
            for start in range(0, len(slowly), piece):
                writer.write(slowly[start : start + piece])
                await writer.drain()
                await asyncio.sleep(_BYTE_EVERY_S)


async def _closed(reader: asyncio.StreamReader) -> None:
    """Until the other side closes; an answer before that is read past."""
    with contextlib.suppress(ConnectionError):
        while await reader.read(4096):
            pass


async def _ended(reader: asyncio.StreamReader) -> None:
    """Until the call on the connection is ended, or the connection is."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head = await reader.readexactly(9)
            await reader.readexactly(int.from_bytes(head[:3], "big"))
            kind, flags = head[3], head[4]
            if kind in (_RST_STREAM, _GOAWAY) or (kind in (_HEADERS, _DATA) and flags & _END_STREAM):
                return
