"""A device that asks numbered questions through an outbox; in a process of its own, or several in one.

    python -m tests.chaos.device --agent 3 --questions 250 --pace-s 0.4 --server HOST:PORT --folder DIR

Killed and started again it goes on where it was; it asks its last question once ``DIR/release`` is there.
What it shows, it appends to ``DIR/shown-3.jsonl``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path

from device_agent.errors import OutboxFullError
from device_agent.outbox.outbox import Outbox
from device_agent.outbox.records import Bounds, Delivery
from device_agent.outbox.relay import Spooler, together
from device_agent.outbox.sender import SPOOL_BACKOFF, Troubles
from device_agent.outbox.store import Spool
from device_agent.uplink.uplink import Uplink
from tests.chaos.questions import SOURCE, record_of, spooled
from tests.weightless import BUNDLE_HASH

_FULL_DISK_S = 0.2


def outbox_of(folder: Path, agent: int) -> Path:
    """Where an agent's outbox lies."""
    return folder / f"outbox-{agent}.db"


def shown_by(folder: Path, agent: int) -> Path:
    """Where an agent writes what it shows."""
    return folder / f"shown-{agent}.jsonl"


def release_of(folder: Path) -> Path:
    """Once this file is there, agents that are processes ask their last question."""
    return folder / "release"


async def ask_all(
    outbox: Outbox,
    agent: int,
    questions: int,
    *,
    server: str,
    pace_s: float,
    show: Callable[[Delivery], None],
    token_length: int = 16,
    on_full: Callable[[], None] = lambda: None,
    release: Path | None = None,
) -> None:
    """Ask, and return once every question has been delivered.

    Args:
        outbox: of this agent.
        agent: its number.
        questions: how many.
        server: address.
        pace_s: between two questions [s].
        show: called with each delivery.
        token_length: of each question.
        on_full: called each time a question did not go into the outbox for want of disk.
        release: the last question is asked only once this file is there; None: at once.
    """
    uplink = Uplink(
        server,
        BUNDLE_HASH,
        device_id=f"chaos-{agent}-{outbox.device_key}",
        keep_session=True,
        backoff=SPOOL_BACKOFF,
    )
    async with uplink:
        spooler = Spooler(outbox, uplink, record_of, Troubles())

        async def ask() -> None:
            number = int(await outbox.call(lambda spool: spool.file.note("next", b"0")))
            while number < questions:
                while number == questions - 1 and release is not None and not release.exists():
                    await asyncio.sleep(0.1)
                try:
                    await outbox.call(Spool.put, spooled(agent, number, token_length))
                    number += 1
                    await outbox.call(_note_next, number)
                except OutboxFullError:
                    on_full()
                    await asyncio.sleep(_FULL_DISK_S)
                await asyncio.sleep(pace_s)
            while await outbox.call(Spool.sources):
                await asyncio.sleep(0.05)

        await together(spooler.send(), spooler.deliver(SOURCE, show), ask())


def _note_next(spool: Spool, number: int) -> None:
    spool.file.take_note("next", str(number).encode())


async def run(folder: Path, agent: int, questions: int, server: str, pace_s: float) -> None:
    """As a process."""
    with shown_by(folder, agent).open("a", encoding="utf-8") as shown:

        def show(delivery: Delivery) -> None:
            shown.write(json.dumps({"request_id": delivery.request_id, **delivery.record}) + "\n")
            shown.flush()

        async with Outbox(outbox_of(folder, agent), Bounds()) as outbox:
            await ask_all(
                outbox,
                agent,
                questions,
                server=server,
                pace_s=pace_s,
                show=show,
                release=release_of(folder),
            )


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--agent", type=int, required=True)
    parser.add_argument("--questions", type=int, required=True)
    parser.add_argument("--server", required=True)
    parser.add_argument("--pace-s", type=float, required=True)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)  # trouble is what this is about
    asyncio.run(run(**vars(arguments)))


if __name__ == "__main__":
    main()
