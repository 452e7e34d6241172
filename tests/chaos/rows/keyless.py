"""Strangers without key or certificate, each kind of attack for a minute, beside devices that are enrolled.

Certificates and keys are asked for. What counts is what the others see of it, and what the server holds.
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
from tests.chaos.attacks.running import STRANGERS, attack
from tests.chaos.attacks.target import Target
from tests.chaos.bystanders import Crowd, Where, ask_beside, process_apart
from tests.chaos.row import Row, Scale, Settled, at_most, exactly
from tests.chaos.watched import edge_server, growth_of

EACH_S: Mapping[Scale, float] = MappingProxyType({"test": 3.0, "quick": 5.0, "full": 60.0})
MOST_LIVEZ_S = 0.250
MOST_GROWTH_BYTES = 100 * 10**6
_DEVICES = 6
_PROMISE = (
    "Strangers without a key, 60 s of each of 1, 2, 4, 10 kinds at once: p99 of /livez; growth of memory; "
    "honest devices answered"
)


async def run(scale: Scale, folder: Path) -> Row:
    """Each kind in turn, on one server."""
    pki = make_pki(folder / "certs")
    key = keys.add_key(pki.access, "app", time.time())
    devices = [pki.device(f"camera-{number}").credentials() for number in range(_DEVICES)]
    crowd = Crowd(devices=_DEVICES, each_hz=1.0, texts_hz=1.0, probe=True)
    loop = asyncio.get_running_loop()
    found: dict[str, dict[str, Any]] = {}
    # /livez is asked for by a name that the server's certificate has.
    with edge_server(pki.settings()) as server, process_apart() as others, process_apart() as strangers:
        rest = server.doors.rest.replace("127.0.0.1", "localhost")
        where = Where(server.doors.grpc, rest, devices, key, pki.root)
        target = Target(server.doors.grpc, rest, pki.root)
        await loop.run_in_executor(others, ask_beside, where, crowd, max(EACH_S[scale] / 6, 3.0), 0)
        alone = await loop.run_in_executor(others, ask_beside, where, crowd, EACH_S[scale] / 2, 1)
        for seed, kind in enumerate(STRANGERS):
            with growth_of(server) as growth:
                attacking = loop.run_in_executor(strangers, attack, target, "strangers", kind, EACH_S[scale])
                fared = await loop.run_in_executor(others, ask_beside, where, crowd, EACH_S[scale], seed + 2)
                done = await attacking
            asked = fared.asked["grpc"] + fared.asked["rest"]
            found[kind] = {
                "livez_p99_s": fared.p99_s("livez"),
                "grpc_p99_s": fared.p99_s("grpc"),
                "asked": asked,
                "unanswered": asked - fared.answered("grpc", "rest"),
                "growth_mb": growth.most_bytes / 1e6,
                "failed": dict(fared.failed),
                "done": done,
            }
        alive = server.alive
        log_lines = server.log.count("\n")
    livez_s = max(each["livez_p99_s"] for each in found.values())
    growth_mb = max(each["growth_mb"] for each in found.values())
    asked = sum(each["asked"] for each in found.values())
    unanswered = sum(each["unanswered"] for each in found.values())
    checks = [
        at_most("p99 of /livez [ms]", livez_s * 1000, MOST_LIVEZ_S * 1000),
        at_most("growth of memory [MB]", growth_mb, MOST_GROWTH_BYTES / 1e6),
        exactly("honest questions without an answer", unanswered + (not alive), 0),
    ]
    told = f"{livez_s * 1000:.0f} ms; {growth_mb:.0f} MB; {100 * (asked - unanswered) / asked:.2f}%"
    return Row(
        "Strangers without a key",
        f"{', '.join(STRANGERS)}: {EACH_S[scale]:g} s each, beside {asked} questions of {_DEVICES} enrolled "
        "devices and a client with a key",
        checks,
        {"kinds": found, "livez_p99_alone_s": alone.p99_s("livez"), "lines_in_the_log": log_lines},
        [Settled(_PROMISE, told, all(check.kept for check in checks))],
    )
