"""One user with a hundred questions waiting, nineteen with one: how much longer do the nineteen wait?

Against twenty users with one question each at a server that nobody else uses. Both closed loops: a question
follows an answer, so that the heavy user always has its hundred on the way.
"""

from __future__ import annotations

import asyncio
from typing import Any

from deploy.loadtest.generator import closed_loop
from deploy.loadtest.measurement import Measurement
from deploy.loadtest.running import held
from tests.benchmarks.serving.row import Claim, Context, Row, Values, spread
from tests.benchmarks.serving.served import serving

LIGHT_USERS = 19
QUEUED = 100
HEAVY_USER = LIGHT_USERS
ALONE_USERS = LIGHT_USERS + 1


async def measure(context: Context) -> dict[str, Any]:
    seconds = context.pick(15.0, 1.0)
    repeats = context.pick(5, 1)
    alone: list[Measurement] = []
    light: list[Measurement] = []
    heavy: list[Measurement] = []
    settings = {"max_questions_in_flight": QUEUED, "max_queue_per_user": QUEUED}
    async with serving(context.model, settings) as served:
        users = served.users(ALONE_USERS, context.seed)
        target = served.target(users_per_channel=1)
        async with held(target, users.numbers) as (door, _):
            await closed_loop(door, users.numbers, users.draw, context.pick(3.0, 0.5))
            for _ in range(repeats):
                alone.append(await closed_loop(door, users.numbers, users.draw, seconds))
                crowding = asyncio.create_task(
                    closed_loop(door, [HEAVY_USER], users.draw, seconds + 1.0, in_flight=QUEUED)
                )
                await asyncio.sleep(0.5)  # so that its hundred wait when the others come
                light.append(await closed_loop(door, range(LIGHT_USERS), users.draw, seconds))
                heavy.append(await crowding)
        await target.close()
    return {
        "alone_p99_s": spread([run.latencies.at(99) for run in alone]),
        "light_p99_s": spread([run.latencies.at(99) for run in light]),
        "heavy_p99_s": spread([run.latencies.at(99) for run in heavy]),
        "alone_answered_hz": spread([run.answered_hz for run in alone]),
        "light_answered_hz": spread([run.answered_hz for run in light]),
        "heavy_answered_hz": spread([run.answered_hz for run in heavy]),
        "not_answered": sum(run.sent - run.outcomes["answered"] for run in (*alone, *light, *heavy)),
        "p99_ratio": spread(
            [b.latencies.at(99) / a.latencies.at(99) for a, b in zip(alone, light, strict=True)]
        ),
    }


def claims(found: Values) -> list[Claim]:
    return [
        Claim(
            f"Light users beside one with {QUEUED} questions queued: p99 over {ALONE_USERS} users alone",
            "at most",
            2.0,
            found["p99_ratio"]["median"],
            sides={
                "beside the heavy one [s]": found["light_p99_s"]["median"],
                "alone [s]": found["alone_p99_s"]["median"],
            },
        )
    ]


ROW = Row("fairness", "A heavy user and many light ones", measure, claims)
