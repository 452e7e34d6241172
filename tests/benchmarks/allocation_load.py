"""What sharing the cell out costs the server: users as fast as it answers, allocation on and off in turns.

    python -m tests.benchmarks.allocation_load --out docs/results/allocation_load.json

Both servers run all the time; only the one whose turn it is is asked. Every user has a session, so that with
the allocation on there is somebody to share with, and grants are told while questions are answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from deploy.loadtest.generator import closed_loop
from deploy.loadtest.grpc_target import GrpcTarget, bundle_of
from deploy.loadtest.profile import Group
from deploy.loadtest.running import held
from deploy.loadtest.users import Users
from deploy.with_server import edge_server
from edge_server.model.provenance import current_commit

OFF, ON = "off", "joint"
LEAST = 0.97
_COMMAND = "python -m tests.benchmarks.allocation_load"
_MEASURES = ["edge_server/cell", "edge_server/frontdoor/grpc"]


async def turn(server: str, users: int, seconds: float) -> float:
    """Answers per second of closed-loop users."""
    bundle = await asyncio.to_thread(bundle_of, server)
    asking = Users(Group.model_validate({"count": users, "token_lengths": (16,)}), bundle, 0, 1)
    target = GrpcTarget(server, bundle.hash)
    try:
        async with held(target, asking.numbers) as (door, _):
            done = await closed_loop(door, asking.numbers, asking.draw, seconds)
    finally:
        await target.close()
    assert done.outcomes["answered"] == done.sent, f"of {done.sent} questions: {dict(done.outcomes)}"
    return done.answered_hz


async def measure(model: Path, users: int, turns: int, seconds: float) -> dict[str, list[float]]:
    """Answers per second of each, turn by turn; a first turn of both is not counted."""
    found: dict[str, list[float]] = {OFF: [], ON: []}
    with ExitStack() as stack:
        servers = {}
        for policy in found:
            settings = {"TOKENLINK_SERVER_UI": "off"}
            if policy != OFF:
                settings["TOKENLINK_SERVER_ALLOCATION"] = policy
            servers[policy] = stack.enter_context(edge_server(model, settings))["TOKENLINK_DEVICE_SERVER"]
        for number in range(-1, turns):
            for policy in sorted(found, reverse=number % 2 == 0):
                answered_hz = await turn(servers[policy], users, seconds)
                if number >= 0:
                    found[policy].append(answered_hz)
                    told = f"allocation {policy}: {answered_hz:.0f} answers a second"
                    print(f"turn {number + 1} of {turns}, {told}")
    return found


def report_of(found: dict[str, list[float]], users: int) -> dict[str, Any]:
    """As JSON, with the promise that it settles."""
    median = {policy: statistics.median(each) for policy, each in found.items()}
    ratio = median[ON] / median[OFF]
    pairs = sorted(on / off for on, off in zip(found[ON], found[OFF], strict=True))
    return {
        "command": _COMMAND,
        "measures": _MEASURES,
        "commit": current_commit(),
        "users": users,
        "answered_hz": found,
        "median_hz": median,
        "ratio_of_turns": {"least": pairs[0], "median": statistics.median(pairs), "most": pairs[-1]},
        "promises": [
            {
                "what": "Throughput of the server, allocation on over off",
                "measured": ratio,
                "met": ratio >= LEAST,
                "sides": {"on [/s]": median[ON], "off [/s]": median[OFF]},
                "unit": "ratio",
            }
        ],
    }


def main() -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path("deploy/models/soundstage-small"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/allocation_load.json"))
    parser.add_argument("--users", type=int, default=32)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=4.0)
    arguments = parser.parse_args()
    found = asyncio.run(measure(arguments.model, arguments.users, arguments.turns, arguments.seconds))
    report = report_of(found, arguments.users)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report["promises"], indent=1))


if __name__ == "__main__":
    main()
