"""Server and agents killed, the link cut, while questions are asked."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from pathlib import Path

from device_agent.outbox.records import Entry
from tests.chaos.device import release_of
from tests.chaos.judge import entries_of, judge
from tests.chaos.processes import Process, ServerProcess
from tests.chaos.proxy import Proxy
from tests.chaos.row import Row, Scale, at_most, exactly

RESUMED_WITHIN_S = 10.0


@dataclass(frozen=True)
class Plan:
    """What happens at a scale: kills and cuts are spread over the time that the questions take."""

    agents: int
    questions: int
    pace_s: float
    server_kills: int
    agent_kills: int
    cuts: int
    between_s: float


PLANS: dict[Scale, Plan] = {
    "test": Plan(2, 15, 0.4, 1, 1, 2, 0.5),
    "quick": Plan(4, 30, 0.6, 2, 3, 5, 0.8),
    "full": Plan(20, 250, 1.8, 20, 20, 50, 2.0),
}


async def run(scale: Scale, folder: Path) -> Row:
    """See the module."""
    plan = PLANS[scale]
    rng = random.Random(1)
    # At the full scale answers outlive the server; without that a kill costs runs, and nothing else.
    settings = {"answers": folder / "answers.db"} if scale == "full" else {}
    server = ServerProcess(folder, **settings)
    ready_s = [await server.up()]
    agents: dict[int, Process] = {}
    try:
        async with Proxy("127.0.0.1", server.port) as proxy:
            for number in range(plan.agents):
                arguments = [
                    *("tests.chaos.device", "--folder", str(folder), "--agent", str(number)),
                    *("--questions", str(plan.questions), "--pace-s", str(plan.pace_s)),
                    *("--server", proxy.address),
                ]
                agents[number] = Process(arguments, folder / f"agent-{number}.log")
                await agents[number].start()
            events = ["server"] * plan.server_kills + ["agent"] * plan.agent_kills + ["cut"] * plan.cuts
            rng.shuffle(events)
            killed = {"server": 0, "agent": 0, "cut": 0}
            for event in events:
                await asyncio.sleep(rng.uniform(0.5, 1.5) * plan.between_s)
                match event:
                    case "server":
                        await server.kill()
                        ready_s.append(await server.up())
                        # Long enough for all to come back; a kill in between is what cuts are for.
                        await asyncio.sleep(RESUMED_WITHIN_S if scale == "full" else 2.0)
                        killed["server"] += 1
                    case "agent":
                        victim = rng.choice(list(agents.values()))
                        if victim.ended is not None:
                            raise RuntimeError(f"an agent ended by itself:\n{victim.log()}")
                        await victim.kill()
                        await victim.start()
                        killed["agent"] += 1
                    case _:
                        async with asyncio.timeout(60):
                            while not proxy.connections:
                                await asyncio.sleep(0.05)
                        proxy.cut()
                        killed["cut"] += 1
            # Only now do they ask their last question: until here all were at work.
            release_of(folder).touch()
            async with asyncio.timeout(120):
                codes = [await agent.wait() for agent in agents.values()]
    finally:
        for process in (*agents.values(), server):
            await process.kill()
    verdict = judge(folder, range(plan.agents), plan.questions)
    entries = {number: entries_of(folder, number) for number in agents}
    resumed_s = [resumed for at_s in ready_s[1:] for resumed in _resumed_s(entries, at_s)]
    return Row(
        "kills",
        f"server killed (-9) {killed['server']} times, agents killed {killed['agent']} times, link cut "
        f"{killed['cut']} times while {plan.agents} agents asked {verdict.asked} questions",
        [
            exactly("answered", verdict.answered, plan.agents * plan.questions),
            exactly("lost", verdict.lost, 0),
            exactly("shown twice", verdict.twice, 0),
            exactly("wrong", verdict.wrong, 0),
            exactly("out of order", verdict.unordered, 0),
            exactly("agents that ended well", codes.count(0), plan.agents),
            at_most("resumed after the server was ready [s]", max(resumed_s, default=0.0), RESUMED_WITHIN_S),
        ],
        {"not_printed_but_in_the_outbox": verdict.unprinted, "resumptions": len(resumed_s), "killed": killed},
    )


def _resumed_s(entries: dict[int, list[Entry]], ready_s: float) -> list[float]:
    """For each agent that had questions waiting when a server was ready: when its first answer came [s]."""
    resumed = []
    for own in entries.values():
        ended = [
            entry.ended_at_s for entry in own if entry.ended_at_s is not None and entry.ended_at_s > ready_s
        ]
        waited = any(entry.created_at_s <= ready_s < (entry.ended_at_s or time.time()) for entry in own)
        if waited and ended:
            resumed.append(min(ended) - ready_s)
    return resumed
