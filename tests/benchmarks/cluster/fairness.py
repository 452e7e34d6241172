"""One user who asks a hundred questions at once beside nineteen who ask one at a time, over two doors."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import numpy as np

from tests.benchmarks.cluster.devices import Device, Doors, Tally
from tests.benchmarks.cluster.places import place
from tests.waiting import until_true

WHAT = "One heavy user, nineteen light ones over both doors: light p99 over alone"
STEP_S, LIGHT, HEAVY = 0.05, 19, 96


def measure(*, quick: bool) -> dict[str, Any]:
    """Measure it."""
    seconds = 5.0 if quick else 20.0
    settings = {
        "BATCHES": "1",
        "MAX_BATCH": "8",
        "ARRIVALS_PER_S": "1000",
        "MAX_QUESTIONS_IN_FLIGHT": "256",
        "MAX_QUEUE_PER_USER": "256",
    }
    with place(1, STEP_S) as (_, nodes):
        started = nodes.start_all(["door", "door", "engine", "engine", "engine"], **settings)
        doors = started[:2]
        until_true(lambda: all(door.ready for door in doors))
        at = Doors([door.grpc for door in doors], doors[0].bundle_hash)
        alone = asyncio.run(_light_p99(at, 0, seconds, "alone"))
        beside = asyncio.run(_light_p99(at, HEAVY, seconds, "beside"))
    return {"alone_p99_s": alone, "beside_p99_s": beside, "ratio": beside / alone, "seconds": seconds}


async def _light_p99(at: Doors, heavy: int, seconds: float, name: str) -> float:
    light, other, stop = Tally(), Tally(), asyncio.Event()

    async def go(device: Device, tag: str) -> None:
        for question in itertools.count():
            if stop.is_set():
                break
            await device.ask(f"{tag}{question}", (1 + question % 900, 2), whole=True)
        await device.close()

    # The heavy user is one device at each door: its session there is the user.
    tasks = [
        asyncio.create_task(go(Device(f"heavy-{name}", at, number, other), f"h{number}-"))
        for number in range(heavy)
    ]
    tasks += [
        asyncio.create_task(go(Device(f"light-{name}-{number}", at, number, light), "q"))
        for number in range(LIGHT)
    ]
    await asyncio.sleep(seconds * 0.2)
    light.latencies_s.clear()
    await asyncio.sleep(seconds)
    p99 = float(np.percentile(light.latencies_s, 99))
    stop.set()
    await asyncio.gather(*tasks)
    return p99


def promises(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Its row of the table."""
    sides = {"beside [s]": found["beside_p99_s"], "alone [s]": found["alone_p99_s"]}
    return [{"what": WHAT, "measured": found["ratio"], "met": found["ratio"] <= 2.0, "sides": sides}]
