"""One enrolled attacker among fifty devices: each kind of attack for a minute, and the others' goodput.

    the others alone │ beside the attack │ the others alone │ beside the attack │ ...     for each kind

Goodput: questions of the others that are answered within their time, per second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edge_server.access import keys
from tests.authority import make_pki
from tests.chaos.attacks.running import ENROLLED, attack
from tests.chaos.attacks.target import Target
from tests.chaos.bystanders import Crowd, Fared, Where, ask_beside, process_apart
from tests.chaos.row import Row, Scale, Settled, at_least, exactly
from tests.chaos.watched import edge_server

TURNS: Mapping[Scale, int] = MappingProxyType({"test": 1, "quick": 1, "full": 3})
TURN_S: Mapping[Scale, float] = MappingProxyType({"test": 2.0, "quick": 8.0, "full": 20.0})
DEVICES: Mapping[Scale, int] = MappingProxyType({"test": 5, "quick": 10, "full": 50})
IN_TIME_S = 5.0
"""An answer that comes later is no good."""
LEAST, LEAST_ALONE = 0.9, 0.95
_PROMISE = "One enrolled attacker of 50 devices, 60 s each: goodput of the others over that without"


async def run(scale: Scale, folder: Path) -> Row:
    """Each kind in turns, on one server."""
    pki = make_pki(folder / "certs")
    thief = pki.device("thief").credentials()
    thief_key = keys.add_key(pki.access, "thief", time.time())
    count = DEVICES[scale] - 1
    devices = [pki.device(f"camera-{number}").credentials() for number in range(count)]
    crowd = Crowd(devices=count, each_hz=1.0)
    loop = asyncio.get_running_loop()
    found: dict[str, dict[str, Any]] = {}
    with edge_server(pki.settings()) as server, process_apart() as others, process_apart() as strangers:
        rest = server.doors.rest.replace("127.0.0.1", "localhost")
        where = Where(server.doors.grpc, rest, devices, None, pki.root)
        target = Target(server.doors.grpc, rest, pki.root, thief, thief_key)
        await loop.run_in_executor(others, ask_beside, where, crowd, TURN_S[scale] / 2, 0)
        for kind in ENROLLED:
            alone, beside, done = Fared(), Fared(), {}
            for turn in range(TURNS[scale]):
                seed = 2 * turn
                alone.add(await loop.run_in_executor(others, ask_beside, where, crowd, TURN_S[scale], seed))
                attacking = loop.run_in_executor(strangers, attack, target, "enrolled", kind, TURN_S[scale])
                beside.add(
                    await loop.run_in_executor(others, ask_beside, where, crowd, TURN_S[scale], seed + 1)
                )
                done = await attacking
            seconds = TURN_S[scale] * TURNS[scale]
            found[kind] = {
                "beside_hz": _in_time(beside) / seconds,
                "alone_hz": _in_time(alone) / seconds,
                "asked_beside": beside.asked["grpc"],
                "asked_alone": alone.asked["grpc"],
                # Arrivals are random: what of them was answered in time is what can be compared.
                "share_beside": _in_time(beside) / beside.asked["grpc"],
                "share_alone": _in_time(alone) / alone.asked["grpc"],
                "p99_beside_s": beside.p99_s("grpc"),
                "p99_alone_s": alone.p99_s("grpc"),
                "failed": dict(beside.failed + alone.failed),
                "last_turn": done,
            }
        alive = server.alive
    worst = min(found.values(), key=lambda each: each["share_beside"] / each["share_alone"])
    ratio = worst["share_beside"] / worst["share_alone"]
    alone = min(each["share_alone"] for each in found.values())
    sides = {"beside [in time of 1]": worst["share_beside"], "without [in time of 1]": worst["share_alone"]}
    return Row(
        "One enrolled attacker",
        f"{', '.join(ENROLLED)}: {TURNS[scale]} turns of {TURN_S[scale]:g} s each, beside {count} devices "
        f"that ask once a second and want an answer within {IN_TIME_S:g} s",
        [
            at_least("goodput of the others, as a share of that without", ratio, LEAST),
            # What a machine cannot answer alone, no attack can be blamed for.
            at_least("answered in time without the attacker", alone, LEAST_ALONE),
            exactly("the server ended", int(not alive), 0),
        ],
        {"kinds": found},
        [Settled(_PROMISE, round(ratio, 4), ratio >= LEAST and alone >= LEAST_ALONE and alive, sides)],
    )


def _in_time(fared: Fared) -> int:
    return sum(each <= IN_TIME_S for each in fared.times_s.get("grpc", ()))
