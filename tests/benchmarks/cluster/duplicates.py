"""The same question of the same device at two doors at once, again and again."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.benchmarks.cluster.devices import Device, Doors, Tally
from tests.benchmarks.cluster.places import place
from tests.waiting import until_true

WHAT = "Same request_id at two doors at once, 1,000 times"
_AT_ONCE = 10


def measure(*, quick: bool) -> dict[str, Any]:
    """Measure it."""
    times = 50 if quick else 1000
    settings = {"BATCHES": "1", "MAX_BATCH": "16"}
    with place(1, 0.002) as (_, nodes):
        first, second, engine = nodes.start_all(["door", "door", "engine"], **settings)
        until_true(lambda: first.ready and second.ready)
        same = asyncio.run(_ask((first.grpc, second.grpc), first.bundle_hash, times))
        executed = engine.count('tokenlink_questions_total{outcome="answered"}')
    return {"times": times, "same_answer": same, "executed": int(executed)}


async def _ask(targets: tuple[str, str], bundle_hash: str, times: int) -> int:
    tally, left, same = Tally(), iter(range(times)), 0

    async def go(number: int) -> None:
        nonlocal same
        pair = [Device(f"d{number}", Doors([target], bundle_hash), 0, tally) for target in targets]
        for question in left:
            asking = (each.ask(f"q{question}", (1 + question % 900, 1 + question // 900)) for each in pair)
            answers = await asyncio.gather(*asking)
            same += answers[0] == answers[1]
        for each in pair:
            await each.close()

    await asyncio.gather(*map(go, range(_AT_ONCE)))
    assert not tally.wrong
    return same


def promises(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Its row of the table."""
    met = found["executed"] == found["same_answer"] == found["times"] and found["times"] >= 1000
    words = f"{found['times']:,} times: executed {found['executed']:,}, same answer {found['same_answer']:,}"
    return [{"what": WHAT, "measured": words, "met": met}]
