"""Steady load for an hour: memory, descriptors and tasks of the server have to stay what they are.

    devices ── questions ──▶ server     a fifth is taken back: by a cancel frame, by hanging up
            ── new stream, new connection, every few questions
    clients ── HTTP ────────▶           a fifth goes away before its answer

What was planted on purpose (:data:`tests.chaos.serve_fingerprints.FAULTS`) has to be noticed by the same run.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType

import grpc
import grpc.aio
import httpx

from protos.tokenlink.v1 import tokenlink_pb2 as pb
from protos.tokenlink.v1.tokenlink_pb2_grpc import TokenLinkStub
from tests.chaos.mutation import valid_question
from tests.chaos.row import Row, Scale, at_most, exactly
from tests.chaos.serve_fingerprints import FAULT
from tests.chaos.watched import Doors, WatchedServer
from tests.weightless import CHANNEL_DIM

DURATION_S: Mapping[Scale, float] = MappingProxyType({"test": 12.0, "quick": 12.0, "full": 3600.0})
WARM_UP_S: Mapping[Scale, float] = MappingProxyType({"test": 5.0, "quick": 5.0, "full": 300.0})
MOST_GROWTH_BYTES = 20 * 10**6
MOST_MORE = 10
"""Descriptors, or tasks, more at the end than after the warm-up: they come and go with what is in flight."""

_DEVICES, _CLIENTS = 6, 2
_PAUSE_S = 0.05
_CANCELLED = 0.2
_PER_STREAM, _STREAMS_PER_CHANNEL = 20, 3
_SAMPLE_S = 0.5
_SETTLE_S = 30.0


@dataclass
class Load:
    """What the askers did."""

    counts: Counter[str] = field(default_factory=Counter)
    stop: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True)
class Sample:
    """The server at one moment."""

    memory_bytes: int
    descriptors: int
    tasks: int
    threads: int


async def run(scale: Scale, folder: Path, fault: str = "") -> Row:
    """Load, and watch.

    Args:
        scale: how long.
        folder: not used.
        fault: planted in the server; one of its ``FAULTS``.
    """
    load = Load()
    gc.freeze()  # what is there already is not searched again at every sample
    with WatchedServer(
        {"arrivals_per_s": 1000, "arrivals_burst": 1000}, environment={FAULT: fault}
    ) as server:
        await asyncio.sleep(1.0)
        idle = _sample(server)
        askers = [
            *(asyncio.create_task(_device(server.doors, number, load)) for number in range(_DEVICES)),
            *(asyncio.create_task(_client(server.doors, number, load)) for number in range(_CLIENTS)),
        ]
        await asyncio.sleep(WARM_UP_S[scale])
        samples = []
        until = time.monotonic() + DURATION_S[scale] - WARM_UP_S[scale]
        while time.monotonic() < until and server.alive:
            samples.append(_sample(server))
            await asyncio.sleep(_SAMPLE_S)
        load.stop.set()
        await asyncio.gather(*askers)
        until = time.monotonic() + _SETTLE_S
        settled = _sample(server)
        # Connections that were kept for a next question go first, their tasks after them.
        while (
            settled.descriptors > idle.descriptors or settled.tasks > idle.tasks
        ) and time.monotonic() < until:
            await asyncio.sleep(_SAMPLE_S)
            settled = _sample(server)
    growth = _change(samples, lambda each: each.memory_bytes)
    counts = load.counts
    return Row(
        "Steady load",
        f"{DURATION_S[scale]:g} s, {counts['asked']} questions, {counts['taken back']} of them taken back, "
        f"{counts['connections']} connections",
        [
            at_most("growth of memory after the warm-up [MB]", growth / 1e6, MOST_GROWTH_BYTES / 1e6),
            at_most("more descriptors", _change(samples, lambda each: each.descriptors), MOST_MORE),
            at_most("more tasks", _change(samples, lambda each: each.tasks), MOST_MORE),
            at_most("descriptors left when all have gone", settled.descriptors - idle.descriptors, MOST_MORE),
            at_most("tasks left when all have gone", settled.tasks - idle.tasks, 2),
            exactly("questions answered wrongly or not at all", counts["wrong"], 0),
        ],
        {
            "counts": dict(counts),
            "threads": settled.threads,
            "idle": asdict(idle),
            "settled": asdict(settled),
            "memory_mb": [
                round(each.memory_bytes / 1e6, 1) for each in samples[:: max(1, len(samples) // 60)]
            ],
        },
    )


def _sample(server: WatchedServer) -> Sample:
    # A closed channel of grpc.aio keeps its connection, on our side, until its cycle of references is found.
    gc.collect()
    return Sample(server.memory_bytes, server.descriptors, server.tasks, server.threads)


def _change(samples: Sequence[Sample], figure: Callable[[Sample], float]) -> float:
    """Median of the last fifth over that of the first."""
    part = max(1, len(samples) // 5)
    first, last = ([figure(each) for each in piece] for piece in (samples[:part], samples[-part:]))
    return statistics.median(last) - statistics.median(first)


async def _device(doors: Doors, number: int, load: Load) -> None:
    """Ask over streams that end and connections that are made anew."""
    rng = random.Random(number)
    ids = itertools.count()
    while not load.stop.is_set():
        load.counts["connections"] += 1
        async with grpc.aio.insecure_channel(
            doors.grpc, options=(("grpc.use_local_subchannel_pool", 1),)
        ) as channel:
            stub = TokenLinkStub(channel)  # type: ignore[no-untyped-call]
            opened = await stub.OpenSession(
                pb.OpenSessionRequest(device_id=f"device{number}", bundle_hash=doors.bundle_hash, snr_db=10.0)
            )
            for _ in range(_STREAMS_PER_CHANNEL):
                await _stream(stub, opened.session_id, doors.bundle_hash, rng, ids, load)


async def _stream(
    stub: TokenLinkStub,
    session_id: str,
    bundle_hash: str,
    rng: random.Random,
    ids: itertools.count[int],
    load: Load,
) -> None:
    call = stub.Converse()
    answered: list[str] = []
    for _ in range(_PER_STREAM):
        if load.stop.is_set():
            break
        request_id = f"q{next(ids)}"
        frame = pb.UplinkFrame(session_id=session_id, bundle_hash=bundle_hash)
        frame.question.CopyFrom(valid_question(rng, request_id, CHANNEL_DIM))
        await call.write(frame)
        load.counts["asked"] += 1
        if rng.random() < _CANCELLED:
            load.counts["taken back"] += 1
            if rng.random() < 0.3:
                call.cancel()  # hangs up, with the question in flight
                return
            await call.write(pb.UplinkFrame(session_id=session_id, cancel=pb.Cancel(request_id=request_id)))
        end = await _end_of(call, request_id)
        if end is None or (
            end.HasField("failure") and end.failure.code != grpc.StatusCode.CANCELLED.value[0]
        ):
            load.counts["wrong"] += 1
        elif end.HasField("answer"):
            answered.append(request_id)
            load.counts["answered"] += 1
        if len(answered) >= 5:
            acknowledged = pb.Acknowledge(request_ids=answered)
            await call.write(pb.UplinkFrame(session_id=session_id, acknowledge=acknowledged))
            answered = []
        await asyncio.sleep(_PAUSE_S)
    await call.done_writing()
    async for _ in call:
        pass


async def _end_of(
    call: grpc.aio.StreamStreamCall[pb.UplinkFrame, pb.DownlinkFrame], request_id: str
) -> pb.DownlinkFrame | None:
    async with asyncio.timeout(30):
        async for frame in call:
            if frame.request_id == request_id and not frame.HasField("delta"):
                return frame
    return None


async def _client(doors: Doors, number: int, load: Load) -> None:
    """Ask over HTTP; every so often go away before the answer, or connect anew."""
    rng = random.Random(-1 - number)
    while not load.stop.is_set():
        load.counts["connections"] += 1
        async with httpx.AsyncClient(base_url=doors.rest, timeout=30) as http:
            for _ in range(_PER_STREAM):
                if load.stop.is_set():
                    break
                load.counts["asked"] += 1
                body = {"question": f"what plays {rng.random()}?", "user": f"client{number}"}
                asking = asyncio.create_task(http.post("/v1/infer", json=body))
                if rng.random() < _CANCELLED:
                    load.counts["taken back"] += 1
                    await asyncio.sleep(rng.uniform(0, 0.01))
                    asking.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await asking
                elif (await asking).status_code == 200:
                    load.counts["answered"] += 1
                else:
                    load.counts["wrong"] += 1
                await asyncio.sleep(_PAUSE_S)
