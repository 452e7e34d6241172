"""What the way through the broker costs over an engine in the door's own process: 5 kB questions over gRPC.

One question at a time for latencies; sixteen at once for the processor time of a question, of all processes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import psutil

from tests.benchmarks.cluster.devices import Device, Doors, Tally, block
from tests.benchmarks.cluster.places import place
from tests.waiting import until_true

WHAT = "The hop over embedded, 5 kB, p50 and p99, one replica; three; CPU of a question"
ASKED = {"1": (2.0, 8.0), "3": (4.0, 15.0)}
ASKED_CPU_MS = 0.4
_AT_ONCE = 16


def measure(*, quick: bool) -> dict[str, Any]:
    """Measure it."""
    questions = 60 if quick else 1000
    found = {"embedded": _of("alone", 0, questions)}
    for servers in (1, 3):
        found[str(servers)] = _of("cluster", servers, questions)
    alone = found["embedded"]
    for replicas in ("1", "3"):
        found[f"over_embedded_{replicas}"] = {
            name: found[replicas][name] - alone[name] for name in ("p50_ms", "p99_ms", "cpu_ms")
        }
    return {"questions": questions, "load_before": os.getloadavg()[0], **found}


def _of(kind: str, replicas: int, questions: int) -> dict[str, float]:
    settings = {"BATCHES": "1", "REPLICAS": str(max(replicas, 1))}
    with place(max(replicas, 1), 0.0) as (broker, nodes):
        if kind == "alone":
            door = nodes.start("alone", BATCHES="1")
            measured = {"door": [door.process.pid]}
        else:
            door, engine = nodes.start_all(["door", "engine"], **settings)
            measured = {
                "door": [door.process.pid],
                "engine": [engine.process.pid],
                "nats": [broker.pid(number) for number in range(replicas)],
            }
        until_true(lambda: door.ready)
        return asyncio.run(_ask(Doors([door.grpc], door.bundle_hash), questions, measured))


async def _ask(doors: Doors, questions: int, pids: Mapping[str, Sequence[int]]) -> dict[str, float]:
    payload = [block()]
    warm, tally, crowd = Tally(), Tally(), Tally()
    device = Device("one", doors, 0, warm, payload)
    for number in range(50):
        await device.ask(f"warm{number}", (1, 2), whole=True)
    device._tally = tally
    for number in range(questions):
        await device.ask(f"q{number}", (1 + number % 100, 2), whole=True)
    await device.close()
    many = [Device(f"m{number}", doors, 0, crowd, payload) for number in range(_AT_ONCE)]

    async def go(device: Device) -> None:
        for number in range(questions // 4):
            await device.ask(f"q{number}", (1 + number % 100, 2), whole=True)
        await device.close()

    before = {pid: _cpu_s(pid) for each in pids.values() for pid in each}
    await asyncio.gather(*map(go, many))
    took_ms = {pid: (_cpu_s(pid) - began_s) / crowd.answered * 1e3 for pid, began_s in before.items()}
    cpu_ms = {f"cpu_{what}_ms": sum(took_ms[pid] for pid in each) for what, each in pids.items()}
    # The one that leads the queue is busiest.
    most_ms = max((took_ms[pid] for pid in pids.get("nats", ())), default=0.0)
    p50, p99 = np.percentile(tally.latencies_s, [50, 99]) * 1e3
    return {
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "cpu_ms": sum(cpu_ms.values()),
        **cpu_ms,
        "cpu_nats_most_ms": most_ms,
    }


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def promises(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Its row of the table."""
    one, three = found["over_embedded_1"], found["over_embedded_3"]
    met = all(
        over["p50_ms"] <= ASKED[replicas][0] and over["p99_ms"] <= ASKED[replicas][1]
        for replicas, over in (("1", one), ("3", three))
    )
    times = [f"{over['p50_ms']:.1f} and {over['p99_ms']:.1f} ms" for over in (one, three)]
    words = "; ".join([*times, f"{one['cpu_ms']:.2f} ms"])
    return [{"what": WHAT, "measured": words, "met": bool(met and one["cpu_ms"] <= ASKED_CPU_MS)}]
