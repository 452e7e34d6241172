"""A crowd of agents that lose their server at the same moment, and want it back."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from unittest import mock

from device_agent.outbox.sender import SPOOL_BACKOFF
from device_agent.uplink import uplink
from device_agent.uplink.uplink import Uplink
from tests.chaos.processes import ServerProcess
from tests.chaos.questions import expected, question
from tests.chaos.row import Row, Scale, at_most, exactly
from tests.weightless import BUNDLE_HASH

BACK_WITHIN_S = 60.0
BUSIEST_PART = 0.1


@dataclass(frozen=True)
class Plan:
    """How many, and what the server lets in; at the full scale its defaults."""

    agents: int
    settings: dict[str, float]


PLANS: dict[Scale, Plan] = {
    "test": Plan(40, {"arrivals_per_s": 2.5, "arrivals_burst": 1}),
    "quick": Plan(30, {"arrivals_per_s": 2, "arrivals_burst": 1}),
    "full": Plan(1000, {}),
}


async def run(scale: Scale, folder: Path) -> Row:
    """See the module. Uplinks in this process stand for agents, each with a connection of its own."""
    plan = PLANS[scale]
    server = ServerProcess(folder, log_level="INFO", **plan.settings)
    await server.up()
    right = 0
    with _connections_of_their_own():
        crowd = [
            Uplink(
                server.address,
                BUNDLE_HASH,
                device_id=f"crowd-{number}",
                keep_session=True,
                backoff=SPOOL_BACKOFF,
            )
            for number in range(plan.agents)
        ]
        try:
            async with asyncio.timeout(180):
                await asyncio.gather(
                    *(agent.ask(question(n, 0), deadline_s=170) for n, agent in enumerate(crowd))
                )

            async def come_back(number: int, agent: Uplink) -> None:
                nonlocal right
                reply = await agent.ask(question(number, 1), deadline_s=170)
                right += reply.answer.text == expected(number, 1)

            await server.kill()
            coming = [asyncio.create_task(come_back(number, agent)) for number, agent in enumerate(crowd)]
            await server.up()
            async with asyncio.timeout(180):
                await asyncio.gather(*coming)
        finally:
            await asyncio.gather(*(agent.close() for agent in crowd))
            await server.kill()
    ready_s, back_s = _last_start(folder / "server.log")
    busiest = max(sum(at_s <= other < at_s + 1.0 for other in back_s) for at_s in back_s)
    return Row(
        "stampede",
        f"{plan.agents} agents lost their server (-9) at once, and asked again when it was back",
        [
            exactly("back", len(back_s), plan.agents),
            exactly("right", right, plan.agents),
            at_most("all back after the server was ready [s]", max(back_s) - ready_s, BACK_WITHIN_S),
            at_most("part of them in the busiest second", busiest / plan.agents, BUSIEST_PART),
        ],
        {"first_back_s": round(min(back_s) - ready_s, 2), "settings": plan.settings},
    )


def _last_start(log: Path) -> tuple[float, list[float]]:
    """When a server was ready the last time, and when each device then opened its session.

    By the server's log: a crowd in one process may lag behind itself.
    """
    ready_s = 0.0
    opened: dict[str, float] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):  # the last line before a kill
            said = json.loads(line)
            at_s = datetime.fromisoformat(said["time"]).timestamp()
            if said["message"] == "serving":
                ready_s, opened = at_s, {}
            elif said["message"] == "session opened":
                opened.setdefault(said["device_id"], at_s)
    return ready_s, list(opened.values())


@contextlib.contextmanager
def _connections_of_their_own() -> Iterator[None]:
    """Channels of one process share a connection to one address, unless told otherwise."""
    options = (*uplink._CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
    with mock.patch.object(uplink, "_CHANNEL_OPTIONS", options):
        yield
