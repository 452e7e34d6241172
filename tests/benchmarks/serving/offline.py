"""The limit: a plain loop over perfect batches, against what is served to 64 users over gRPC.

The loop has all questions before it begins, in full batches, and no transport, queue or thread around it.
Both run the same model code; compared is CPU time per question of the process that answers, as generator and
server share a machine. They take turns. The loop runs with as many threads as the server, and with one:
threads that wait for one another cost CPU time too, and a limit is what costs the least.

A loop that has the machine to itself also has its caches and its clock rate to itself, which a server beside
a generator has not. How much that is show loops of one thread, one on every core, all at once; they are
reported, and nothing is promised of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from deploy.loadtest.generator import closed_loop
from deploy.loadtest.running import held
from edge_server.server.config import ServerConfig
from tests.benchmarks.serving.row import Claim, Context, Row, Values, spread
from tests.benchmarks.serving.served import serving

USERS = 64


async def measure(context: Context) -> dict[str, Any]:
    seconds = context.pick(10.0, 1.0)
    repeats = context.pick(5, 1)
    batches = context.pick(60, 2)
    served_cpu_s: list[float] = []
    threads = sorted({1, ServerConfig().runtime.threads})
    limits: dict[int, list[dict[str, float]]] = {count: [] for count in threads}
    beside_cpu_s: list[float] = []
    cores = os.cpu_count() or 1
    answered_hz: list[float] = []
    async with serving(context.model) as served:
        users = served.users(USERS, context.seed)
        target = served.target()
        async with held(target, users.numbers) as (door, _):
            await closed_loop(door, users.numbers, users.draw, context.pick(3.0, 0.5))
            for _ in range(repeats):
                began_cpu_s = served.cpu_s()
                run = await closed_loop(door, users.numbers, users.draw, seconds)
                served_cpu_s.append((served.cpu_s() - began_cpu_s) / run.outcomes["answered"])
                answered_hz.append(run.answered_hz)
                for count in threads:
                    limits[count].append(await _offline(context.model, context.seed, batches, count))
                beside = (_offline(context.model, context.seed, batches, 1) for _ in range(cores))
                beside_cpu_s.append(
                    statistics.mean(each["cpu_s_per_question"] for each in await asyncio.gather(*beside))
                )
        await target.close()
    costs = {count: [each["cpu_s_per_question"] for each in limits[count]] for count in threads}
    cheapest = min(threads, key=lambda count: statistics.median(costs[count]))
    limit_cpu_s, limit = costs[cheapest], limits[cheapest]
    return {
        "limit_threads": cheapest,
        "limit_cpu_s_by_threads": {str(count): spread(values) for count, values in costs.items()},
        "users": USERS,
        "served_cpu_s": spread(served_cpu_s),
        "limit_cpu_s": spread(limit_cpu_s),
        "loops_side_by_side": cores,
        "side_by_side_cpu_s": spread(beside_cpu_s),
        "side_by_side_over_served": spread([a / b for a, b in zip(beside_cpu_s, served_cpu_s, strict=True)]),
        "served_hz": spread(answered_hz),
        "limit_hz": spread([each["answered_hz"] for each in limit]),
        "limit_over_served": spread([a / b for a, b in zip(limit_cpu_s, served_cpu_s, strict=True)]),
    }


async def _offline(model: Path, seed: int, batches: int, threads: int) -> dict[str, float]:
    numbers = map(str, (seed, batches, USERS, threads))
    arguments = ["-m", "tests.benchmarks.serving.offline_loop", str(model), *numbers]
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the offline loop ended with {process.returncode}")
    return dict(json.loads(out))


def claims(found: Values) -> list[Claim]:
    return [
        Claim(
            f"CPU time of a question: the offline limit over ours with {found['users']} gRPC users",
            "at least",
            0.85,
            found["limit_over_served"]["median"],
            sides={
                "limit [s]": found["limit_cpu_s"]["median"],
                "served [s]": found["served_cpu_s"]["median"],
            },
        )
    ]


ROW = Row("offline", "Against perfect batches offline", measure, claims)
