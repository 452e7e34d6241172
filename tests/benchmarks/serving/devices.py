"""Where the model computes: the same users against servers on the processor and on a GPU.

    python -m tests.benchmarks.serving.devices --out docs/results/serving_devices.json

Needs a CUDA GPU. On the processor one server runs as it comes; on the GPU one with a single batch, and one
with two side by side. All are there at once and are asked in turn by users in a closed loop. Prints a table,
writes JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import uvloop
from rich.console import Console
from rich.progress import track
from rich.table import Table

from deploy.loadtest.generator import closed_loop
from deploy.loadtest.running import held
from deploy.loadtest.target import Draw, Target
from edge_server.server.config import ServerConfig
from tests.benchmarks.device_report import machine
from tests.benchmarks.serving.row import spread
from tests.benchmarks.serving.served import ServedModel, serving

SERVERS: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        "processor": {},
        "gpu": {"device": "cuda"},
        "gpu, two batches": {"device": "cuda", "batches": 2},
    }
)
"""Settings by what is compared."""
ON_A_PROCESSOR: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {"processor": {}, "one batch": {"batches": 1}}
)
"""The same program on a machine without a GPU."""
USERS = (1, 16, 64, 256)


@dataclass
class _Asked:
    """A server, and what was found of it, by number of users."""

    served: ServedModel
    door: Target
    draw: Draw
    answered_hz: dict[int, list[float]] = field(default_factory=dict)
    p50_s: dict[int, list[float]] = field(default_factory=dict)
    p99_s: dict[int, list[float]] = field(default_factory=dict)
    cpu_s: dict[int, list[float]] = field(default_factory=dict)

    async def ask(self, users: int, seconds: float) -> None:
        """Take one turn."""
        began_cpu_s = self.served.cpu_s()
        run = await closed_loop(self.door, range(users), self.draw, seconds)
        for found, value in (
            (self.answered_hz, run.answered_hz),
            (self.p50_s, run.latencies.at(50)),
            (self.p99_s, run.latencies.at(99)),
            (self.cpu_s, (self.served.cpu_s() - began_cpu_s) / run.outcomes["answered"]),
        ):
            found.setdefault(users, []).append(value)

    def to_json(self) -> list[dict[str, Any]]:
        """By number of users."""
        return [
            {
                "users": users,
                "answered_hz": spread(self.answered_hz[users]),
                "p50_s": spread(self.p50_s[users]),
                "p99_s": spread(self.p99_s[users]),
                "cpu_s_per_question": spread(self.cpu_s[users]),
            }
            for users in self.answered_hz
        ]


async def measure(
    model: Path,
    servers: Mapping[str, Mapping[str, object]],
    users: Sequence[int],
    rounds: int,
    seconds: float,
    seed: int,
    console: Console,
) -> dict[str, Any]:
    """Ask all of them in turn.

    Args:
        model: folder of the served model.
        servers: their settings, by name.
        users: how many ask at once, in turn.
        rounds: how often each has its turn.
        seconds: how long a turn takes [s].
        seed: of what is asked.
        console: for the progress.
    """
    async with AsyncExitStack() as stack:
        asked: dict[str, _Asked] = {}
        for name, settings in servers.items():
            served = await stack.enter_async_context(serving(model, settings))
            asking = served.users(max(users), seed)
            target = served.target()
            stack.push_async_callback(target.close)
            door, _ = await stack.enter_async_context(held(target, asking.numbers))
            asked[name] = _Asked(served, door, asking.draw)
            for count in users:  # warms up every size of batch
                await closed_loop(door, range(count), asking.draw, seconds / 2)
        turns = list(asked.values())
        for _ in track(range(rounds), "rounds", console=console, transient=True):
            turns.reverse()
            for count in users:
                for each in turns:
                    await each.ask(count, seconds)
    return {name: each.to_json() for name, each in asked.items()}


def show(report: Mapping[str, Any], console: Console) -> None:
    """The report as a table."""
    table = Table(title=f"{report['model']} on {report['gpu'] or 'no GPU'}, median (quartiles)")
    for heading in ("server", "users", "answers a second", "p50 ms", "p99 ms", "CPU ms a question"):
        table.add_column(heading, justify="left" if heading == "server" else "right")
    for name, rows in report["servers"].items():
        for row in rows:
            hz = row["answered_hz"]
            table.add_row(
                name,
                str(row["users"]),
                f"{hz['median']:.0f} ({hz['lower']:.0f} to {hz['upper']:.0f})",
                *(f"{1e3 * row[key]['median']:.2f}" for key in ("p50_s", "p99_s", "cpu_s_per_question")),
            )
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command.

    Raises:
        SystemExit: there is no GPU.
    """
    parser = argparse.ArgumentParser(description="Serve on the processor and on a GPU, in turn.")
    parser.add_argument("--model", type=Path, default=ServerConfig().runtime.model)
    parser.add_argument("--users", type=int, action="append", help=f"at once; may be repeated; {USERS}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="a turn")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--without-gpu", action="store_true", help="on the processor alone: does it work?")
    parser.add_argument("--out", type=Path, help="figures as JSON")
    options = parser.parse_args(arguments)
    if not options.without_gpu and not torch.cuda.is_available():
        raise SystemExit("needs a CUDA GPU; --without-gpu compares processors")
    console = Console(highlight=False)
    servers = ON_A_PROCESSOR if options.without_gpu else SERVERS
    found = uvloop.run(
        measure(
            options.model,
            servers,
            tuple(options.users or USERS),
            options.rounds,
            options.seconds,
            options.seed,
            console,
        )
    )
    config = ServerConfig()
    report = {
        "model": options.model.name,
        "gpu": None if options.without_gpu else torch.cuda.get_device_name(0),
        "machine": machine() | {"batches": config.engine.batches, "threads": config.runtime.threads},
        "rounds": options.rounds,
        "seconds": options.seconds,
        "seed": options.seed,
        "servers": found,
    }
    show(report, console)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
