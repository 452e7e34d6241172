"""A question that needs no model, against a bare echo: what the layers between cost.

Ask through front door, cell, queue, worker thread and back, with a model that ends every answer with its
first step; against a grpc.aio server that returns what it gets, unary, and as a stream of one message, as Ask
is. Each in a process of its own; they take turns, one call after the other.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import numpy as np
import psutil

from deploy.loadtest.measurement import Latencies
from deploy.loadtest.questions import random_block
from deploy.with_server import server_process
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from protos.tokenlink.v1.tokenlink_pb2_grpc import TokenLinkStub
from tests.benchmarks.serving import echo
from tests.benchmarks.serving.row import Claim, Context, Row, Values, spread
from tests.benchmarks.serving.served import ServedModel, cpu_s_of, serving
from tests.weightless import CHANNEL_DIM

TOKEN_LENGTH = 16
Call = Callable[[], Awaitable[None]]


async def measure(context: Context) -> dict[str, Any]:
    rounds = context.pick(20, 2)
    calls = context.pick(250, 20)
    async with (
        serving(None) as served,
        echoing() as (address, echo_process),
        grpc.aio.insecure_channel(served.grpc) as ours,
        grpc.aio.insecure_channel(address) as bare,
    ):
        ask, size_bytes = await _asking(served, ours)
        data = os.urandom(size_bytes)
        unary: Any = bare.unary_unary(echo.UNARY)
        stream: Any = bare.unary_stream(echo.STREAM)

        async def echo_unary() -> None:
            await unary(data)

        async def echo_stream() -> None:
            async for _ in stream(data):
                pass

        contestants: dict[str, Call] = {"ask": ask, "unary": echo_unary, "stream": echo_stream}
        processes = {"ask": served.cpu_s, "unary": echo_process, "stream": echo_process}
        p50_s: dict[str, list[float]] = {name: [] for name in contestants}
        cpu_s = dict.fromkeys(contestants, 0.0)
        for call in contestants.values():
            await _time(call, calls)
        for _ in range(rounds):
            for name, call in contestants.items():
                began_cpu_s = processes[name]()
                p50_s[name].append((await _time(call, calls)).at(50))
                cpu_s[name] += processes[name]() - began_cpu_s
    return {
        "question_bytes": size_bytes,
        "calls": rounds * calls,
        "p50_s": {name: spread(values) for name, values in p50_s.items()},
        "server_cpu_s_per_call": {name: value / (rounds * calls) for name, value in cpu_s.items()},
        "over_unary": spread([a / b for a, b in zip(p50_s["ask"], p50_s["unary"], strict=True)]),
        "over_stream": spread([a / b for a, b in zip(p50_s["ask"], p50_s["stream"], strict=True)]),
    }


async def _asking(served: ServedModel, channel: grpc.aio.Channel) -> tuple[Call, int]:
    """One Ask after the other, each under a new request_id; and the size of the question."""
    stub = TokenLinkStub(channel)  # type: ignore[no-untyped-call]
    opened = await stub.OpenSession(
        pb.OpenSessionRequest(device_id="noop", bundle_hash=served.bundle_hash, snr_db=10.0)
    )
    rng = np.random.default_rng(1)
    blocks = [random_block(rng, CHANNEL_DIM, name, TOKEN_LENGTH) for name in ("video", "audio")]
    request = pb.AskRequest(
        session_id=opened.session_id,
        bundle_hash=served.bundle_hash,
        question=pb.Question(request_id="0" * 8, payloads=blocks, question_ids=range(1, 12)),
    )
    number = 0

    async def ask() -> None:
        nonlocal number
        number += 1
        request.question.request_id = f"{number:08d}"
        answered = 0
        async for frame in stub.Ask(request):
            answered += frame.HasField("answer")
        assert answered == 1

    return ask, request.ByteSize()


async def _time(call: Call, calls: int) -> Latencies:
    took = Latencies()
    for _ in range(calls):
        began_s = time.perf_counter()
        await call()
        took.record(time.perf_counter() - began_s)
    return took


@asynccontextmanager
async def echoing() -> AsyncIterator[tuple[str, Callable[[], float]]]:
    """A bare echo in a process of its own: its address, and the CPU time that it has used [s]."""
    with server_process([sys.executable, "-m", "tests.benchmarks.serving.echo"], {}) as facts:
        yield facts["grpc"], lambda: cpu_s_of(psutil.Process(facts["pid"]))


def claims(found: Values) -> list[Claim]:
    return [
        Claim(
            "A question through all layers but the model: p50 over that of a bare grpc.aio echo",
            "at most",
            2.0,
            found["over_unary"]["median"],
            sides={"ask [s]": found["p50_s"]["ask"]["median"], "echo [s]": found["p50_s"]["unary"]["median"]},
        )
    ]


ROW = Row("noop", "All layers but the model", measure, claims)
