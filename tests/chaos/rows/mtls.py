"""What mutual TLS costs: the shipped model asked by many users, with it and without, in turns.

Both servers run all the time and share the machine; only the one whose turn it is is asked. The users are
agents of one enrolled device, so that every frame is checked against the access file too.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from deploy.loadtest.generator import closed_loop
from deploy.loadtest.measurement import Measurement
from deploy.loadtest.running import held
from tests.authority import make_pki
from tests.benchmarks.serving.served import ServedModel, serving
from tests.chaos.row import Row, Scale, at_least, exactly

MODEL = Path(__file__).resolve().parents[3] / "deploy" / "models" / "soundstage-small"
USERS: Mapping[Scale, int] = MappingProxyType({"test": 8, "quick": 16, "full": 64})
SECONDS: Mapping[Scale, float] = MappingProxyType({"test": 0.5, "quick": 1.0, "full": 10.0})
TURNS: Mapping[Scale, int] = MappingProxyType({"test": 1, "quick": 1, "full": 7})
LEAST_SHARE = 0.9

#: All users are one device's agents, which may ask as much as the server can answer.
_UNLIMITED: Mapping[str, object] = MappingProxyType(
    {"questions_per_minute": 1e9, "bytes_per_minute": 1e12, "max_streams": 1000}
)


async def run(scale: Scale, folder: Path) -> Row:
    """Ask in turns."""
    pki = make_pki(folder / "certs")
    credentials = pki.device("crowd").credentials()
    answered_hz: dict[str, list[float]] = {"off": [], "on": []}
    unanswered = 0
    async with contextlib.AsyncExitStack() as running:
        servers = {
            "off": await running.enter_async_context(serving(MODEL)),
            "on": await running.enter_async_context(
                serving(MODEL, {**pki.settings(), **_UNLIMITED}, credentials)
            ),
        }
        for turn in range(-1, TURNS[scale]):
            for name, server in servers.items():
                asked = await _ask(server, USERS[scale], SECONDS[scale])
                if turn >= 0:  # the first warms both up
                    answered_hz[name].append(asked.answered_hz)
                    unanswered += asked.sent - asked.outcomes["answered"]
    ratios = [on / off for on, off in zip(answered_hz["on"], answered_hz["off"], strict=True)]
    return Row(
        "mTLS on against off",
        f"{USERS[scale]} users over gRPC, {TURNS[scale]} turns of {SECONDS[scale]:g} s each",
        [
            at_least("throughput with mutual TLS over without", statistics.median(ratios), LEAST_SHARE),
            exactly("questions that were not answered", unanswered, 0),
        ],
        {"answered_hz": answered_hz, "ratios": ratios},
    )


async def _ask(server: ServedModel, count: int, seconds: float) -> Measurement:
    users = server.users(count, seed=1)
    target = server.target()
    try:
        async with held(target, users.numbers) as (door, _):
            return await closed_loop(door, users.numbers, users.draw, seconds)
    finally:
        await target.close()
