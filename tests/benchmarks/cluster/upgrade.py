"""Another model under load, then another release of every process; and a base station whose backhaul is cut.

    version 1 everywhere ─▶ engines: one loads version 2 by SIGHUP, one is replaced ─▶ doors by SIGHUP
      ─▶ devices move on to the new bundle ─▶ doors and engines are ended in order, each after its successor

Devices ask all the time, each question until it is answered. Versions answer every question differently, so
an answer tells who gave it: that has to be the version whose bundle the question was asked with.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks.cluster import backhaul
from tests.benchmarks.cluster.devices import Device, Doors, Tally
from tests.benchmarks.cluster.places import place
from tests.benchmarks.cluster.serve_sleeping import bundle_of
from tests.nodes import Node, Nodes
from tests.waiting import until

WHAT = "Rolling upgrade under load; backhaul of a leaf cut for 5 min"
STEP_S, AGENTS, NEXT = 0.05, 20, 2
_SETTINGS = {"BATCHES": "1", "MAX_BATCH": "8", "ARRIVALS_PER_S": "1000"}


def measure(*, quick: bool) -> dict[str, Any]:
    """Measure both."""
    with place(1, STEP_S) as (_, nodes):
        started = nodes.start_all(["door", "door", "engine", "engine"], **_SETTINGS)
        between_s = 1.0 if quick else 10.0
        upgrade = asyncio.run(_upgrade(nodes, started[:2], started[2:], between_s, nodes.folder / "version"))
    return {"upgrade": upgrade, "backhaul": backhaul.measure(quick=quick)}


async def _upgrade(
    nodes: Nodes, doors: list[Node], engines: list[Node], between_s: float, version: Path
) -> dict[str, Any]:
    tally, asked, stop = Tally(), itertools.count(), asyncio.Event()
    at = Doors([door.grpc for door in doors], bundle_of(1))
    begun = 0

    async def agent(number: int) -> None:
        nonlocal begun
        device = Device(f"agent-{number}", at, number, tally)
        while not stop.is_set():
            question = next(asked)
            begun += 1
            await device.ask(f"q{question}", (1 + question % 900, 1 + question // 900 % 900))
        await device.close()

    async def go_on() -> None:
        """For a while, in which everybody asks."""
        before = tally.answered
        await asyncio.sleep(between_s)
        await until(lambda: tally.answered > before + 2 * AGENTS)

    asking = [asyncio.create_task(agent(number)) for number in range(AGENTS)]
    await go_on()
    version.write_text(str(NEXT), encoding="utf-8")
    engines[0].process.send_signal(signal.SIGHUP)
    engines.append(await asyncio.to_thread(nodes.start, "engine", **_SETTINGS))
    await until(lambda: _serves(engines[0], NEXT))
    for door in doors:
        door.process.send_signal(signal.SIGHUP)
        await until(partial(_serves, door, NEXT))
        await go_on()
    # Devices fetch the new bundle, and questions of the old one end; then nobody asks the old model.
    at.bundle_hash = bundle_of(NEXT)
    await go_on()
    moved = tally.answered
    await asyncio.to_thread(engines[1].terminate)
    await go_on()
    for number in range(len(doors)):
        new = await asyncio.to_thread(nodes.start, "door", **_SETTINGS)
        await until(partial(getattr, new, "ready"))
        at.targets[number] = new.grpc
        await asyncio.to_thread(doors[number].terminate)
        await go_on()
    await asyncio.to_thread(engines[0].terminate)
    await go_on()
    stop.set()
    await asyncio.gather(*asking)
    return {
        "questions": begun,
        "answered": tally.answered,
        "answered_once_moved": tally.answered - moved,
        "wrong": tally.wrong,
        "by_version": {str(version): count for version, count in sorted(tally.by_version.items())},
        "by_another_version": tally.by_another,
        "shown_twice": tally.shown_twice,
        "sent_again": tally.retries,
        "longest_s": max(tally.latencies_s),
        "p50_s": sorted(tally.latencies_s)[len(tally.latencies_s) // 2],
    }


def _serves(node: Node, version: int) -> bool:
    return bool(node.facts_now["bundle_hash"] == bundle_of(version))


def promises(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Its row of the table."""
    upgrade, cut = found["upgrade"], found["backhaul"]
    lost = sum(each["questions"] - each["answered"] for each in (upgrade, cut))
    another = upgrade["by_another_version"] + upgrade["wrong"] + cut["wrong"]
    both = len(upgrade["by_version"]) == 2
    met = lost == another == 0 == cut["run_again"] and both and cut["cut_s"] >= 300.0
    words = (
        f"{upgrade['questions']:,} questions over an upgrade and {cut['questions']:,} over a cut of "
        f"{cut['cut_s']:.0f} s: {lost} lost, {another} by the wrong model; the cluster knew all of the "
        f"latter {cut['known_after_s']:.1f} s after it, and ran {cut['run_again']} of "
        f"{cut['asked_again']} again"
    )
    return [{"what": WHAT, "measured": words, "met": met}]
