"""Devices that ask while there is no network: everything comes home in order, or is reported."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from device_agent.outbox.outbox import Outbox
from device_agent.outbox.records import Bounds, Delivery
from device_agent.outbox.store import Spool
from tests.chaos.device import ask_all, outbox_of
from tests.chaos.judge import judge_deliveries, total
from tests.chaos.processes import ServerProcess
from tests.chaos.proxy import Proxy
from tests.chaos.row import Row, Scale, at_most, exactly

ROOM = 12
"""Questions that fit into the small outboxes."""


@dataclass(frozen=True)
class Plan:
    """What happens at a scale."""

    cycles_s: tuple[float, ...]
    online_s: float
    pace_s: float
    ttl_s: float


PLANS: dict[Scale, Plan] = {
    "test": Plan((2.0,), 1.0, 0.1, 1.0),
    "quick": Plan((2.0, 2.0, 3.0), 2.0, 0.2, 3.0),
    # Six times 5 minutes, twice 15, once 30, at a tenth.
    "full": Plan((30.0,) * 6 + (90.0,) * 2 + (180.0,), 15.0, 0.5, 60.0),
}


class Device:
    """An agent in this process."""

    def __init__(self, number: int, folder: Path, bounds: Bounds) -> None:
        self.number = number
        self.shown: list[Delivery] = []
        self.full = 0
        self.outbox = Outbox(outbox_of(folder, number), bounds)

    async def ask(self, questions: int, server: str, pace_s: float) -> None:
        """All its questions."""

        def on_full() -> None:
            self.full += 1

        await ask_all(
            self.outbox,
            self.number,
            questions,
            server=server,
            pace_s=pace_s,
            show=self.shown.append,
            on_full=on_full,
        )

    async def fill_disk(self) -> None:
        """From now on the file cannot grow; SQLite says the same of a disk without space."""

        def fill(spool: Spool) -> None:
            spool.file.db.execute("VACUUM")
            (pages,) = spool.file.db.execute("PRAGMA page_count").fetchone()
            spool.file.db.execute(f"PRAGMA max_page_count = {pages}")

        await self.outbox.call(fill)

    async def free_disk(self) -> None:
        """It can again."""
        await self.outbox.call(lambda spool: spool.file.db.execute("PRAGMA max_page_count = 1000000"))

    @property
    def outcomes(self) -> Counter[str]:
        """How many of its questions ended how."""
        return Counter(delivery.outcome for delivery in self.shown)


async def run(scale: Scale, folder: Path) -> Row:
    """See the module."""
    plan = PLANS[scale]
    took_s = sum(plan.cycles_s) + plan.online_s * (len(plan.cycles_s) + 1)
    questions = round(took_s / plan.pace_s)
    roomy, full, small, new, old = (
        Device(number, folder, bounds)
        for number, bounds in enumerate(
            (
                Bounds(),
                Bounds(),
                Bounds(max_questions=ROOM),
                Bounds(max_questions=ROOM, evict="newest"),
                Bounds(ttl_s=plan.ttl_s),
            )
        )
    )
    devices = (roomy, full, small, new, old)
    server = ServerProcess(folder)
    await server.up()
    try:
        async with Proxy("127.0.0.1", server.port) as proxy, asyncio.TaskGroup() as group:
            asking = [
                group.create_task(_with(device.outbox, device.ask, questions, proxy.address, plan.pace_s))
                for device in devices
            ]
            for offline_s in plan.cycles_s:
                await asyncio.sleep(plan.online_s)
                proxy.refuse()
                await full.fill_disk()
                await asyncio.sleep(offline_s)
                await full.free_disk()
                proxy.heal()
            async with asyncio.timeout(took_s + 60):
                await asyncio.wait(asking)
    finally:
        await server.kill()
    verdicts = {
        device: judge_deliveries(device.number, questions, folder, device.shown) for device in devices
    }
    everything = total(list(verdicts.values()))
    in_order = [
        [int(delivery.label) for delivery in device.shown] == list(range(questions)) for device in devices
    ]
    reported = {
        name: small.outcomes[name] + new.outcomes[name] + old.outcomes[name]
        for name in ("evicted", "expired")
    }
    counted = await _counts(devices)
    return Row(
        "offline",
        f"offline {' + '.join(f'{cycle:g}' for cycle in plan.cycles_s)} s while {len(devices)} agents asked "
        f"{questions} questions each; of one the disk was full, two had room for {ROOM}, one a time to live",
        [
            exactly("agents whose sequence 1 to N is complete and ordered", sum(in_order), len(devices)),
            exactly("lost without a word", everything.lost, 0),
            exactly("shown twice", everything.twice, 0),
            exactly("wrong", everything.wrong, 0),
            exactly("unanswered where there was room", verdicts[roomy].dropped + verdicts[full].dropped, 0),
            exactly("dropped and not counted", everything.dropped - counted, 0),
            at_most("kinds of drops that did not happen", sum(not count for count in reported.values()), 0),
            at_most("times the disk was not full", int(not full.full), 0),
        ],
        {"answered": everything.answered, "reported": reported, "times_the_disk_was_full": full.full},
    )


async def _with(outbox: Outbox, work: Callable[..., Awaitable[None]], *arguments: object) -> None:
    async with outbox:
        await work(*arguments)


async def _counts(devices: tuple[Device, ...]) -> int:
    """Dropped by the outboxes' own counters."""
    dropped = 0
    for device in devices:
        async with Outbox(device.outbox.path) as outbox:
            counts = await outbox.call(Spool.counts)
        dropped += counts.get("evicted", 0) + counts.get("expired", 0)
    return dropped
