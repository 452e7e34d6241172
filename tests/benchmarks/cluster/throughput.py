"""Questions a second of 1 to 8 engines whose steps sleep, two doors, three NATS servers, against linear."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

from tests.benchmarks.cluster.devices import Device, Doors, Tally, block
from tests.benchmarks.cluster.places import place
from tests.waiting import until

ROWS, STEP_S = 8, 0.1
STEPS = 3
"""Of an answer: two letters and its end."""
WHAT = "3 NATS, 2 doors, 1 to 8 engines of a weightless model: throughput over linear"


def measure(*, quick: bool) -> dict[str, Any]:
    """Measure it."""
    counts = (1, 2) if quick else (1, 2, 4, 8)
    seconds, settle_s = (4.0, 2.0) if quick else (15.0, 4.0)
    settings = {"BATCHES": "1", "MAX_BATCH": str(ROWS), "REPLICAS": "3", "ARRIVALS_PER_S": "1000"}
    rates: dict[str, float] = {}
    with place(3, STEP_S) as (_, nodes):
        doors = nodes.start_all(["door", "door"], **settings)
        engines = 0
        for count in counts:
            nodes.start_all(["engine"] * (count - engines), **settings)
            engines = count
            at = Doors([door.grpc for door in doors], doors[0].bundle_hash)
            rates[str(count)] = asyncio.run(_rate(at, count, seconds, settle_s))
    one = rates["1"]
    linear = {count: rate / (int(count) * one) for count, rate in rates.items()}
    return {
        "answered_hz": rates,
        "over_linear": linear,
        "worst": min(linear.values()),
        "most_hz_of_one": ROWS / (STEPS * STEP_S),
        "rows": ROWS,
        "step_s": STEP_S,
        "seconds": seconds,
    }


async def _rate(doors: Doors, engines: int, seconds: float, settle_s: float) -> float:
    tally, payload = Tally(), [block()]
    devices = [
        Device(f"d{engines}-{number}", doors, number, tally, payload) for number in range(engines * ROWS * 3)
    ]
    stop = asyncio.Event()

    async def go(number: int, device: Device) -> None:
        for question in itertools.count():
            if stop.is_set():
                break
            await device.ask(f"q{question}", (1 + number % 100, 1 + question % 100), whole=True)
        await device.close()

    running = [asyncio.create_task(go(number, device)) for number, device in enumerate(devices)]
    await until(lambda: tally.answered > len(devices) // 2)
    await asyncio.sleep(settle_s)
    before, began = tally.answered, time.monotonic()
    await asyncio.sleep(seconds)
    rate = (tally.answered - before) / (time.monotonic() - began)
    stop.set()
    await asyncio.gather(*running)
    assert not tally.wrong
    return rate


def promises(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Its row of the table."""
    most = max(found["answered_hz"], key=int)
    sides = {
        f"{most} engines [/s]": found["answered_hz"][most],
        f"{most} times one [/s]": int(most) * found["answered_hz"]["1"],
    }
    return [
        {"what": WHAT, "measured": found["over_linear"][most], "met": found["worst"] >= 0.9, "sides": sides}
    ]
