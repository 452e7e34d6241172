"""Ten times what the server can do, for a minute: does it still do what it can?

Capacity is measured before and after, closed loop; between them questions arrive ten times as fast. Then come
more obedient users than the server has places: who waits as long as it was told is answered in the end.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

from deploy.loadtest.generator import Manners, closed_loop, open_loop
from deploy.loadtest.running import held
from tests.benchmarks.serving.row import Claim, Context, Row, Values
from tests.benchmarks.serving.served import serving

USERS = 64
TIMES = 10.0
DEADLINE_S = 10.0
OBEDIENT_USERS = 400
"""More than wait and run at once."""
MORE_MEMORY_SHARE = 0.05


async def measure(context: Context) -> dict[str, Any]:
    rng = random.Random(context.seed)
    seconds = context.pick(60.0, 2.0)
    quiet_s = context.pick(2.0, 0.2)
    capacity_s = context.pick(10.0, 1.0)
    obedient_users = context.pick(OBEDIENT_USERS, 50)
    settings = context.pick({}, {"max_queue": 16, "max_batch": 4})
    async with serving(context.model, settings) as served:
        users = served.users(obedient_users, context.seed, deadline_s=DEADLINE_S)
        few = users.numbers[:USERS]
        target = served.target()
        async with held(target, users.numbers) as (door, _):
            warm = await closed_loop(door, few, users.draw, capacity_s)
            # What an allocator keeps after a crowd it keeps once: the crowd has to have been there before.
            await open_loop(
                door, few, users.draw, TIMES * warm.answered_hz, capacity_s, rng=rng, manners=Manners(0.0)
            )
            before = await closed_loop(door, few, users.draw, capacity_s)
            await asyncio.sleep(quiet_s)
            start_bytes = served.resident_bytes()
            offered_hz = TIMES * before.answered_hz
            crowd = await open_loop(
                door, few, users.draw, offered_hz, seconds, rng=rng, manners=Manners(patience_s=0.0)
            )
            await served.settled()
            await asyncio.sleep(quiet_s)
            end_bytes = served.resident_bytes()
            after = await closed_loop(door, few, users.draw, capacity_s)
            obedient = await closed_loop(
                door, users.numbers, users.draw, context.pick(10.0, 1.0), manners=Manners(patience_s=120.0)
            )
        await target.close()
    return {
        "capacity_hz": [before.answered_hz, after.answered_hz],
        "overload": crowd.to_json(),
        "goodput_share": crowd.answered_hz / ((before.answered_hz + after.answered_hz) / 2),
        "deadline_s": DEADLINE_S,
        "start_bytes": start_bytes,
        "end_bytes": end_bytes,
        "obedient": obedient.to_json(),
    }


def claims(found: Values) -> list[Claim]:
    crowd, obedient = found["overload"], found["obedient"]
    faults = sum(crowd["outcomes"].get(outcome, 0) for outcome in ("failed", "expired"))
    return [
        Claim(
            f"{crowd['sent_hz'] / found['capacity_hz'][0]:.1f} times overload: goodput over capacity",
            "at least",
            0.9,
            found["goodput_share"],
        ),
        Claim("Questions sent in overload, over capacity", "at least", TIMES * 0.9, _sent_times(found)),
        Claim(
            "Refused without RESOURCE_EXHAUSTED or without a delay",
            "at most",
            0,
            crowd["refusals_without_delay"] + faults,
        ),
        Claim(
            "p99 of the accepted",
            "at most",
            found["deadline_s"],
            crowd["latency"].get("p99_s", float("nan")),
            "s",
        ),
        Claim(
            "Memory after, over before",
            "at most",
            1.0 + MORE_MEMORY_SHARE,
            found["end_bytes"] / found["start_bytes"],
        ),
        Claim(
            f"Of {obedient['users']} obedient users' questions, unanswered in the end",
            "at most",
            0,
            obedient["sent"] - obedient["outcomes"].get("answered", 0),
        ),
    ]


def _sent_times(found: Values) -> float:
    return float(found["overload"]["sent_hz"] / found["capacity_hz"][0])


ROW = Row("overload", "Ten times overload", measure, claims)
