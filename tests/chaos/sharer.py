"""A device that shares made-up windows of several sources through an outbox, faster than time passes.

    python -m tests.chaos.sharer --agent 3 --sources 5 --server HOST:PORT --folder DIR --every-s 0.5
        --speed 20 [--budget 300000]

Killed and started again it goes on where it was. Once ``DIR/release`` is there it shares nothing more, and
ends when all is stored. ``DIR/up-3`` is there once it listens to signals: SIGUSR1 fills its disk, SIGUSR2
frees it. How large each window was as it was prepared, it appends to ``DIR/prepared-3.jsonl``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from device_agent.agent import Agent
from device_agent.config import DeviceSettings
from device_agent.errors import MediaError
from device_agent.lasting import LastingClock
from device_agent.media.clip import Clip, MediaSpec
from device_agent.outbox.outbox import Outbox
from device_agent.outbox.relay import Spooler, together
from device_agent.outbox.sender import SPOOL_BACKOFF, Troubles
from device_agent.outbox.store import Spool
from device_agent.outcome import Prepared
from device_agent.sharing.budget import Budget
from device_agent.sharing.sharing import Shared, Sharer
from device_agent.sources.registry import Source
from device_agent.uplink.uplink import Uplink
from tests.chaos.device import outbox_of, release_of
from tests.chaos.questions import record_of
from tests.weightless import BUNDLE_HASH, WeightlessTransmitter

_AWAY = 0.01
"""Probability that a source goes away, at each window."""
_PAGES = 1_000_000
_WINDOW_S = 4.0
"""As a camera's; shorter by as much as everything else is faster."""


def up_of(folder: Path, agent: int) -> Path:
    """There once an agent listens to signals."""
    return folder / f"up-{agent}"


def prepared_by(folder: Path, agent: int) -> Path:
    """Where an agent notes what it prepared."""
    return folder / f"prepared-{agent}.jsonl"


class Transmitting(WeightlessTransmitter):
    """Constant tokens of some lengths."""

    manifest = SimpleNamespace(token_lengths=[4, 8, 16])


class Noting(Agent):
    """An agent that notes how large what it prepares is, before anything else is done with it."""

    noted: Any

    async def prepare_share(self, *window: Any, **more: Any) -> Prepared:
        """As any agent."""
        prepared = await super().prepare_share(*window, **more)
        question = prepared.question
        self.noted.write(json.dumps({"request_id": question.request_id, "bytes": question.ByteSize()}) + "\n")
        self.noted.flush()
        return prepared


class Ticking(Source):
    """Still pictures and silence for as long as it is asked for some; goes away now and then."""

    scheme: ClassVar[str] = "ticking"

    def __init__(self, where: str, length_s: float, release: Path, rng: random.Random) -> None:
        super().__init__(where, MediaSpec())
        self._samples = round(length_s * self.spec.sample_rate_hz)
        self._release, self._rng = release, rng

    async def clips(self) -> AsyncIterator[Clip]:
        """One window after another."""
        while not self._release.exists():
            if self._rng.random() < _AWAY:
                raise MediaError(self.where, "is gone for a moment")
            frames = np.full((4, 18, 32, 3), self._rng.randrange(256), np.uint8)
            yield Clip(frames, np.zeros(self._samples, np.float32))


async def run(arguments: argparse.Namespace) -> None:
    """Share until there is nothing more to share, and nothing that is not stored."""
    agent, folder = arguments.agent, arguments.folder
    shared = Shared((), every_s=arguments.every_s, bytes_per_hour=arguments.budget)
    settings = DeviceSettings(
        server=arguments.server, device_id=f"sharer-{agent}", pace=False, payload="int8", channel="none"
    )
    clock = LastingClock()
    async with Outbox(outbox_of(folder, agent), clock=clock) as outbox:
        full_disk_on_signals(outbox)
        up_of(folder, agent).touch()
        uplink = Uplink(
            arguments.server,
            BUNDLE_HASH,
            device_id=f"sharer-{agent}-{outbox.device_key}",
            keep_session=True,
            backoff=SPOOL_BACKOFF,
            lasting=clock,
        )
        async with uplink:
            sending = Noting(settings, Transmitting(), uplink, rng=np.random.default_rng(agent))  # type: ignore[arg-type]
            with prepared_by(folder, agent).open("a", encoding="utf-8") as noted:
                sending.noted = noted
                spooler = Spooler(outbox, uplink, record_of, Troubles())
                # An hour of the budget is over as much sooner as everything else is faster.
                budget = Budget(arguments.budget, lambda: clock() * arguments.speed)
                sharer = Sharer(sending, spooler, budget, clock, shared)
                await sharer.resume()
                names = [f"sharer-{agent}/s{number}" for number in range(arguments.sources)]

                async def share_all() -> None:
                    sources = [
                        Ticking(
                            name,
                            _WINDOW_S / arguments.speed,
                            release_of(folder),
                            random.Random(time.time_ns()),
                        )
                        for name in names
                    ]
                    await asyncio.gather(*map(sharer.share, names, sources))
                    while await outbox.call(lambda spool: spool.counts()["waiting"]):
                        await asyncio.sleep(0.05)

                delivering = [spooler.deliver(f"share {name}", lambda delivery: None) for name in names]
                await together(spooler.send(), share_all(), *delivering)
            await sending.close()


def full_disk_on_signals(outbox: Outbox) -> None:
    """From SIGUSR1 on the outbox's file cannot grow, as on a disk without space, until SIGUSR2."""
    tasks: set[asyncio.Task[None]] = set()

    def limit(to: int | None) -> None:
        def change(spool: Spool) -> None:
            if to is None:
                spool.file.db.execute("VACUUM")
            (pages,) = spool.file.db.execute("PRAGMA page_count").fetchone()
            spool.file.db.execute(f"PRAGMA max_page_count = {to or pages}")

        task = asyncio.create_task(outbox.call(change))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, limit, None)
    loop.add_signal_handler(signal.SIGUSR2, limit, _PAGES)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--agent", type=int, required=True)
    parser.add_argument("--sources", type=int, required=True)
    parser.add_argument("--server", required=True)
    parser.add_argument("--every-s", type=float, required=True)
    parser.add_argument("--speed", type=float, required=True)
    parser.add_argument("--budget", type=int)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
