"""Sources shared for an hour, at a twentieth, through cut links, kills, full disks: kept, once, in order.

What counts as acknowledged is what an agent's outbox says the edge has stored; what is there is read from the
edge's file after everything has ended.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from device_agent.outbox.records import Entry
from device_agent.outbox.store import Spool
from edge_server.scenes import Scene, Wanted, scene_id_of
from edge_server.scenes.sqlite import SqliteScenes
from tests.chaos.device import outbox_of, release_of
from tests.chaos.judge import entries_of
from tests.chaos.processes import Process, ServerProcess
from tests.chaos.proxy import Proxy
from tests.chaos.row import Row, Scale, Settled, at_least, at_most, exactly
from tests.chaos.sharer import prepared_by, up_of

HOUR_S = 3600.0
_ENDS_WITHIN_S = 120.0
_PROMISE = "20 sources for 1 h of simulated time with cut links, kills of both sides, a full disk"
_FULL_SAID = "trying again"
_AWAY_SAID = "waiting for it"


@dataclass(frozen=True)
class Plan:
    """What happens at a scale.

    Attributes:
        agents: each with as many sources.
        sources: of each.
        simulated_s: for so long they share [s].
        speed: so many times faster than time passes.
        every_s: from one window of a source to the next, simulated [s].
        faults: of each kind, spread over that time.
        budget: of every other agent [bytes per simulated hour].
    """

    agents: int
    sources: int
    simulated_s: float
    speed: float
    every_s: float
    faults: int
    budget: int


PLANS: dict[Scale, Plan] = {
    "test": Plan(2, 3, 400.0, 20.0, 10.0, 1, 8_000),
    "quick": Plan(4, 5, 600.0, 20.0, 10.0, 3, 40_000),
    "full": Plan(4, 5, HOUR_S, 20.0, 10.0, 12, 250_000),
}
FAULTS = ("server killed", "agent killed", "link cut", "disk full")


async def run(scale: Scale, folder: Path) -> Row:
    """See the module."""
    plan = PLANS[scale]
    server = ServerProcess(folder, scenes=folder / "scenes.db", answers=folder / "answers.db")
    await server.up()
    agents: dict[int, Process] = {}
    budgets = {number: plan.budget if number % 2 else None for number in range(plan.agents)}
    lasts_s = plan.simulated_s / plan.speed  # by the clock on the wall
    done: Counter[str] = Counter()
    try:
        async with Proxy("127.0.0.1", server.port) as proxy:
            for number, budget in budgets.items():
                arguments = [
                    *("tests.chaos.sharer", "--folder", str(folder), "--agent", str(number)),
                    *(
                        "--sources",
                        str(plan.sources),
                        "--server",
                        proxy.address,
                    ),
                    *("--every-s", str(plan.every_s / plan.speed), "--speed", str(plan.speed)),
                    *(() if budget is None else ("--budget", str(budget))),
                ]
                agents[number] = Process(arguments, folder / f"agent-{number}.log")
            await asyncio.gather(*(_start(folder, *item) for item in agents.items()))
            rng = random.Random(1)
            ends_s = time.monotonic() + lasts_s
            events = [fault for fault in FAULTS for _ in range(plan.faults)]
            rng.shuffle(events)
            for event in events:
                await asyncio.sleep(rng.uniform(0.5, 1.0) * lasts_s / len(events))
                number = rng.randrange(plan.agents)
                if event == "disk full":
                    number -= number % 2  # one that nothing keeps from filling it
                if event == "agent killed":
                    await agents[number].kill()
                    await _start(folder, number, agents[number])
                else:
                    await _happens(event, server, agents[number], proxy, lasts_s / len(events))
                done[event] += 1
            await asyncio.sleep(max(ends_s - time.monotonic(), 0.0))
            release_of(folder).touch()
            async with asyncio.timeout(_ENDS_WITHIN_S):
                codes = [await agent.wait() for agent in agents.values()]
    finally:
        for process in (*agents.values(), server):
            await process.kill()
    said = "".join((folder / f"agent-{number}.log").read_text(errors="replace") for number in agents)
    return _judged(plan, folder, budgets, codes, done, said)


async def _start(folder: Path, number: int, agent: Process) -> None:
    up = up_of(folder, number)
    up.unlink(missing_ok=True)
    await agent.start()
    async with asyncio.timeout(_ENDS_WITHIN_S):
        while not up.exists():
            if agent.ended is not None:
                raise RuntimeError(f"an agent ended by itself:\n{agent.log()}")
            await asyncio.sleep(0.02)


async def _happens(event: str, server: ServerProcess, victim: Process, proxy: Proxy, lasts_s: float) -> None:
    match event:
        case "server killed":
            await server.kill()
            await asyncio.sleep(0.2 * lasts_s)
            await server.up()
        case "link cut":
            proxy.refuse()
            await asyncio.sleep(0.4 * lasts_s)
            proxy.heal()
        case _:
            # Offline at the time: what waits needs room, and there is none.
            proxy.refuse()
            victim.signal(signal.SIGUSR1)
            await asyncio.sleep(0.4 * lasts_s)
            victim.signal(signal.SIGUSR2)
            proxy.heal()


def _judged(
    plan: Plan,
    folder: Path,
    budgets: dict[int, int | None],
    codes: list[int | None],
    done: Counter[str],
    said: str,
) -> Row:
    stored = _stored(folder / "scenes.db")
    missing = twice = unordered = put = 0
    left: Counter[str] = Counter()
    worst = 0.0
    rates = {}
    for number, budget in budgets.items():
        entries, sender = entries_of(folder, number), _sender(folder, number)
        put += len(entries)
        for entry in entries:
            left[entry.outcome or entry.state] += 1
        for source in range(plan.sources):
            name = f"sharer-{number}/s{source}"
            acknowledged = [
                scene_id_of(sender, entry.request_id)
                for entry in entries
                if entry.label == name and entry.outcome == "answered"
            ]
            there = [scene.scene_id for scene in stored[name]]
            missing += len(set(acknowledged) - set(there))
            twice += len(there) - len(set(there)) + len(set(there) - set(acknowledged))
            # By when they began, and as they were asked for: one order.
            unordered += sum(a != b for a, b in zip(there, acknowledged, strict=False))
        most = _most_in_an_hour(folder, number, entries, plan.speed)
        rates[f"sharer-{number}"] = {"most_bytes_in_an_hour": most, "budget": budget}
        if budget is not None:
            worst = max(worst, most / budget)
    in_all = sum(map(len, stored.values()))
    checks = [
        exactly("acknowledged scenes that are not there", missing, 0),
        exactly("scenes that are there twice, or that nobody acknowledged", twice, 0),
        exactly("scenes out of order", unordered, 0),
        exactly("shared windows that were not stored in the end", put - left["answered"], 0),
        at_most("most bytes within an hour, of the budget", worst, 1.0),
        at_least("the same: the budget was reached", worst, 0.9 if plan.faults > 1 else 0.0),
        exactly("agents that ended well", codes.count(0), plan.agents),
        at_least("times the disk was full", said.count(_FULL_SAID), 1),
    ]
    told = f"{missing} of {in_all} missing, {twice} twice, {unordered} out of order; {worst:.1%} of a budget"
    return Row(
        "sharing",
        f"{plan.agents * plan.sources} sources of {plan.agents} agents shared for {plan.simulated_s:g} s, at "
        f"{plan.speed:g} times the speed; "
        + ", ".join(f"{fault} {done[fault]} times" for fault in FAULTS)
        + f"; every other agent with {plan.budget} bytes an hour",
        checks,
        {
            "scenes": in_all,
            "of_each_source": {name: len(scenes) for name, scenes in sorted(stored.items())},
            "bytes": rates,
            "sources_went_away": said.count(_AWAY_SAID),
            "times_the_disk_was_full": said.count(_FULL_SAID),
        },
        [Settled(_PROMISE, told, all(check.kept for check in checks))],
    )


def _stored(path: Path) -> dict[str, list[Scene]]:
    """What the edge has, by device, by when it began."""
    store = SqliteScenes(path)
    try:
        scenes = store.scenes(Wanted(), 1_000_000)
    finally:
        store.close()
    found: dict[str, list[Scene]] = defaultdict(list)
    for scene in sorted(scenes, key=lambda scene: scene.start_s):
        found[scene.device].append(scene)
    return found


def _sender(folder: Path, agent: int) -> str:
    """What an agent goes by."""
    spool = Spool(outbox_of(folder, agent))
    try:
        return f"sharer-{agent}-{spool.file.device_key}"
    finally:
        spool.close()


def _most_in_an_hour(folder: Path, agent: int, entries: list[Entry], speed: float) -> int:
    """Of what went into an agent's outbox [bytes]; by what was noted before any budget was asked."""
    lines = prepared_by(folder, agent).read_text(encoding="utf-8").splitlines()
    # A killed process may leave half a line.
    notes = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
    size = {note["request_id"]: note["bytes"] for note in notes}
    most, within, first = 0, 0, 0
    spent = sorted((entry.created_at_s, size[entry.request_id]) for entry in entries)
    for at_s, taken in spent:
        within += taken
        while spent[first][0] <= at_s - HOUR_S / speed:
            within -= spent[first][1]
            first += 1
        most = max(most, within)
    return most
