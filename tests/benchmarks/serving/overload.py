"""Ten times what the server can do, for a minute: does it still do what it can?

Questions arrive ten times as fast as they can be answered, in turns of two kinds. Users that obey ask nothing
from a refusal until the delay it came with is over, which is what the delay is for. Users that do not obey
send every question; then the generator and the refusals take CPU time that the answers lack, so that the CPU
time of generator and server is reported beside. Capacity is measured before and after each turn, closed loop.
Then come more users than the server has places: who waits as long as it was told is answered in the end.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

from deploy.loadtest.generator import Manners, closed_loop, open_loop
from deploy.loadtest.measurement import Measurement
from deploy.loadtest.running import Held, held
from deploy.loadtest.users import Users
from tests.benchmarks.serving.row import Claim, Context, Row, Values
from tests.benchmarks.serving.served import ServedModel, serving

USERS = 64
TIMES = 10.0
DEADLINE_S = 10.0
PATIENT_USERS = 800
"""More than wait and run at once."""
MORE_MEMORY_SHARE = 0.05
KINDS = {"obedient": Manners(patience_s=0.0), "unruly": Manners(patience_s=0.0, obeys=False)}


class _Crowd:
    """Overloads a server again and again.

    Args:
        served: the server.
        door: with the users' connections.
        users: who ask.
        rng: arrival times.
        capacity_s: for how long the capacity is measured [s].
    """

    def __init__(
        self, served: ServedModel, door: Held, users: Users, rng: random.Random, capacity_s: float
    ) -> None:
        self._served = served
        self._door = door
        self._users = users
        self._few = users.numbers[:USERS]
        self._rng = rng
        self._capacity_s = capacity_s

    async def capacity_hz(self) -> float:
        """Answers per second, closed loop."""
        run = await closed_loop(self._door, self._few, self._users.draw, self._capacity_s)
        return run.answered_hz

    async def come(self, rate_hz: float, seconds: float, manners: Manners) -> Measurement:
        """Questions at a rate, whatever the server does."""
        return await open_loop(
            self._door, self._few, self._users.draw, rate_hz, seconds, rng=self._rng, manners=manners
        )

    async def turn(self, seconds: float, manners: Manners) -> dict[str, Any]:
        """Overload between two measurements of the capacity."""
        before_hz = await self.capacity_hz()
        generator_cpu_s, server_cpu_s = time.process_time(), self._served.cpu_s()
        run = await self.come(TIMES * before_hz, seconds, manners)
        generator_cpu_s = time.process_time() - generator_cpu_s
        server_cpu_s = self._served.cpu_s() - server_cpu_s
        await self._served.settled()
        after_hz = await self.capacity_hz()
        return {
            "capacity_hz": [before_hz, after_hz],
            "goodput_share": run.answered_hz / ((before_hz + after_hz) / 2),
            "generator_cpu_s": generator_cpu_s,
            "server_cpu_s": server_cpu_s,
            "run": run.to_json(),
        }


async def measure(context: Context) -> dict[str, Any]:
    seconds = context.pick(60.0, 2.0)
    capacity_s = context.pick(10.0, 1.0)
    quiet_s = context.pick(2.0, 0.2)
    settings = context.pick({}, {"max_queue": 16, "max_batch": 4})
    async with serving(context.model, settings) as served:
        users = served.users(context.pick(PATIENT_USERS, 50), context.seed, deadline_s=DEADLINE_S)
        target = served.target()
        async with held(target, users.numbers[:USERS]) as (door, _):
            crowd = _Crowd(served, door, users, random.Random(context.seed), capacity_s)
            # What an allocator keeps after a crowd it keeps once: the crowd has to have been there before.
            await crowd.come(TIMES * await crowd.capacity_hz(), capacity_s, KINDS["unruly"])
            await served.settled()
            await asyncio.sleep(quiet_s)
            start_bytes = served.resident_bytes()
            turns = {kind: await crowd.turn(seconds, manners) for kind, manners in KINDS.items()}
            await asyncio.sleep(quiet_s)
            end_bytes = served.resident_bytes()
        # Not before: a stream that says nothing for long is taken for a slow sender's and ended.
        async with held(target, users.numbers) as (door, _):
            patient = await closed_loop(
                door, users.numbers, users.draw, capacity_s, manners=Manners(patience_s=120.0)
            )
        await target.close()
    return {
        **turns,
        "deadline_s": DEADLINE_S,
        "start_bytes": start_bytes,
        "end_bytes": end_bytes,
        "patient": patient.to_json(),
    }


def claims(found: Values) -> list[Claim]:
    turns = [found[kind] for kind in KINDS]
    patient = found["patient"]
    faults = sum(
        turn["run"]["outcomes"].get(outcome, 0) for turn in turns for outcome in ("failed", "expired")
    )
    return [
        Claim(
            f"{_times(found['obedient']):.1f} times overload by users that obey: goodput over capacity",
            "at least",
            0.9,
            found["obedient"]["goodput_share"],
            sides=_goodput_sides(found["obedient"]),
        ),
        Claim(
            f"{_times(found['unruly']):.1f} times overload by users that do not: goodput over capacity",
            "at least",
            0.9,
            found["unruly"]["goodput_share"],
            sides=_goodput_sides(found["unruly"]),
        ),
        Claim(
            "Refused without RESOURCE_EXHAUSTED or without a delay",
            "at most",
            0,
            faults + sum(turn["run"]["refusals_without_delay"] for turn in turns),
        ),
        *(
            Claim(
                f"p99 of the accepted, of {words}", "at most", found["deadline_s"], _p99_s(found[kind]), "s"
            )
            for kind, words in (("obedient", "users that obey"), ("unruly", "users that do not"))
        ),
        Claim(
            "Memory after, over before",
            "at most",
            1.0 + MORE_MEMORY_SHARE,
            found["end_bytes"] / found["start_bytes"],
            sides={"after [bytes]": found["end_bytes"], "before [bytes]": found["start_bytes"]},
        ),
        Claim(
            f"Of {patient['users']} users' questions that wait as told, unanswered in the end",
            "at most",
            0,
            patient["sent"] - patient["outcomes"].get("answered", 0),
        ),
    ]


def _times(turn: Values) -> float:
    """How much was offered, of what the generator managed to offer."""
    run = turn["run"]
    return float((run["offered"] - run["dropped"]) / run["seconds"] / turn["capacity_hz"][0])


def _goodput_sides(turn: Values) -> dict[str, float]:
    before_hz, after_hz = turn["capacity_hz"]
    return {"goodput [/s]": turn["run"]["answered_hz"], "capacity [/s]": (before_hz + after_hz) / 2}


def _p99_s(turn: Values) -> float:
    return float(turn["run"]["latency"].get("p99_s", "inf"))


ROW = Row("overload", "Ten times overload", measure, claims)
