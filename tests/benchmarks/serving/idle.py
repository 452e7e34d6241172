"""A thousand sessions that are open and idle: what each costs, and what they cost a question.

Every session has its Converse stream open, over a connection of its own, as devices have.

"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from deploy.loadtest.measurement import Latencies
from deploy.loadtest.running import held
from deploy.loadtest.target import Connection
from deploy.loadtest.users import Users
from tests.benchmarks.serving.row import Claim, Context, Row, Values, spread
from tests.benchmarks.serving.served import ServedModel, serving

FEW = 10
MOST_BYTES = 50_000


async def measure(context: Context) -> dict[str, Any]:
    many = context.pick(1000, 40)
    rounds = context.pick(5, 2)
    quiet_s = context.pick(2.0, 0.2)
    questions = context.pick(200, 10)
    few_p50_s: list[float] = []
    many_p50_s: list[float] = []
    session_bytes: list[float] = []
    # All at once, for quickness: otherwise the cell lets devices in one after the other.
    async with serving(context.model, {"arrivals_burst": 2 * many}) as served:
        users = served.users(FEW, context.seed, modalities=(("video", "audio"),))
        target = served.target(users_per_channel=1)
        async with held(target, users.numbers) as (door, _):
            line = await door.connect(0)
            await _ask(line, users, questions)
            for turn in range(rounds):
                few_p50_s.append((await _ask(line, users, questions)).at(50))
                # Names of their own each time: a name that comes back would get its old session back.
                first = FEW + turn * many
                before_bytes = await _quiet_bytes(served, quiet_s)
                async with held(target, range(first, first + many - FEW)):
                    session_bytes.append((await _quiet_bytes(served, quiet_s) - before_bytes) / (many - FEW))
                    many_p50_s.append((await _ask(line, users, questions)).at(50))
        await target.close()
    return {
        "sessions": many,
        # The first thousand find an allocator that has never held a thousand: these are what they cost.
        "session_bytes": session_bytes[0],
        "session_bytes_again": session_bytes[1:],
        "few_p50_s": spread(few_p50_s),
        "many_p50_s": spread(many_p50_s),
        "p50_ratio": spread([b / a for a, b in zip(few_p50_s, many_p50_s, strict=True)]),
    }


async def _ask(line: Connection, users: Users, questions: int) -> Latencies:
    """One question after the other."""
    took = Latencies()
    for _ in range(questions):
        question = users.draw(users.numbers[0])
        began_s = time.perf_counter()
        await line.ask(question)
        took.record(time.perf_counter() - began_s)
    return took


async def _quiet_bytes(served: ServedModel, quiet_s: float) -> float:
    await asyncio.sleep(quiet_s)
    await served.inventory()  # collects garbage on the way
    return float(served.resident_bytes())


def claims(found: Values) -> list[Claim]:
    return [
        Claim(
            f"{found['sessions']} open sessions, each with its stream and connection: memory of one",
            "at most",
            MOST_BYTES / 1000,
            found["session_bytes"] / 1000,
            "kB",
        ),
        Claim(
            f"Latency of a question beside them, over that beside {FEW}",
            "at most",
            1.2,
            found["p50_ratio"]["median"],
            sides={
                "beside many [s]": found["many_p50_s"]["median"],
                "beside few [s]": found["few_p50_s"]["median"],
            },
        ),
    ]


ROW = Row("idle", "A thousand idle sessions", measure, claims)
