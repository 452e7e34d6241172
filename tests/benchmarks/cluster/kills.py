"""Engines, doors and NATS servers that are killed, one after another, while devices ask.

A device asks each question until it is answered, under one request_id, at whichever door lives. What an asker
has seen of an answer, joined, has to be the answer; and that has to be the answer to its question.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from typing import Any

from tests.benchmarks.cluster.devices import Device, Doors, Tally
from tests.benchmarks.cluster.places import place
from tests.brokers import Broker
from tests.nodes import Node, Nodes
from tests.waiting import until

WHAT = "Engines killed 20 times, doors 10, NATS nodes 5, during 5,000 questions of 20 agents"
STEP_S, AGENTS = 0.1, 20
_SETTINGS = {"BATCHES": "1", "MAX_BATCH": "8", "REPLICAS": "3", "ARRIVALS_PER_S": "1000"}
_BETWEEN_S = 1.0
_ALWAYS_S = 0.2
"""While nothing is killed, answers come more often."""


def measure(*, quick: bool) -> dict[str, Any]:
    """Measure it."""
    questions, kills = (300, (2, 1, 1)) if quick else (5000, (20, 10, 5))
    with place(3, STEP_S) as (broker, nodes):
        started = nodes.start_all(["door", "door", "engine", "engine"], **_SETTINGS)
        doors, engines = started[:2], started[2:]
        at = Doors([door.grpc for door in doors], doors[0].bundle_hash)
        return asyncio.run(_run(at, doors, engines, nodes, broker, questions, kills))


async def _run(
    at: Doors,
    doors: list[Node],
    engines: list[Node],
    nodes: Nodes,
    broker: Broker,
    questions: int,
    kills: tuple[int, int, int],
) -> dict[str, Any]:
    tally, killed, left = Tally(), dict.fromkeys(("engine", "door", "nats"), 0), iter(range(questions))
    killed_at: list[tuple[str, float]] = []

    async def agent(number: int) -> None:
        device = Device(f"agent-{number}", at, number, tally)
        for question in left:
            await device.ask(f"q{question}", (1 + question % 900, 1 + question // 900))
        await device.close()

    async def kill(what: str) -> None:
        number = killed[what] % (3 if what == "nats" else 2)
        killed[what] += 1
        killed_at.append((what, time.monotonic()))
        if what == "nats":
            await asyncio.to_thread(broker.kill, number)
            await _answered_on(tally)
            await asyncio.to_thread(broker.start, number)
            # One at a time: it has caught up before another goes.
            await until(lambda: broker.healthy(number))
            return
        there = engines if what == "engine" else doors
        await asyncio.to_thread(there[number].kill)
        await _answered_on(tally)
        there[number] = await asyncio.to_thread(nodes.start, what, **_SETTINGS)
        if what == "door":
            at.targets[number] = there[number].grpc

    order = [what for what, count in zip(killed, kills, strict=True) for _ in range(count)]
    random.Random(1).shuffle(order)
    asking = [asyncio.create_task(agent(number)) for number in range(AGENTS)]
    for what in order:
        if all(task.done() for task in asking):
            break
        await kill(what)
        await asyncio.sleep(_BETWEEN_S)
    await asyncio.gather(*asking)
    return {
        "questions": questions,
        "answered": tally.answered,
        "wrong": tally.wrong,
        "shown_twice": tally.shown_twice,
        "sent_again": tally.retries,
        "killed": killed,
        "longest_s": max(tally.latencies_s),
        "longest_silence_s": _longest_silence(killed_at, tally.ended_at),
        "p50_s": sorted(tally.latencies_s)[len(tally.latencies_s) // 2],
    }


async def _answered_on(tally: Tally) -> None:
    """Until the cluster answers again: one at a time is killed."""
    before, ends = tally.answered, time.monotonic() + 30.0
    while tally.answered < before + AGENTS // 2 and time.monotonic() < ends:
        await asyncio.sleep(0.05)


def _longest_silence(killed_at: list[tuple[str, float]], ended_at: list[float]) -> dict[str, float]:
    """Between two answers, at most [s], by what was killed last when it began."""
    longest: dict[str, float] = {}
    ends = sorted(ended_at)
    for began, ended in itertools.pairwise(ends):
        before = [what for what, at in killed_at if at <= began + _ALWAYS_S]
        if before:
            longest[before[-1]] = max(longest.get(before[-1], 0.0), ended - began)
    return longest


def promises(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Its row of the table."""
    lost = found["questions"] - found["answered"]
    killed = found["killed"]
    met = (
        lost == found["shown_twice"] == found["wrong"] == 0
        and found["questions"] >= 5000
        and (killed["engine"], killed["door"], killed["nats"]) == (20, 10, 5)
        and found["longest_s"] <= 15.0
    )
    kills = ", ".join(f"{count} {what}" for what, count in killed.items())
    words = (
        f"{found['answered']:,} answered, {lost} lost, {found['shown_twice']} shown twice; "
        f"longest question {found['longest_s']:.1f} s; killed: {kills}"
    )
    return [{"what": WHAT, "measured": words, "met": met}]
