"""Serving beside a round that learns: p99 of light load, with the round going on and with it standing still.

    python -m tests.benchmarks.cotrain_serving --out docs/results/cotrain_serving.json

A server, a round of ``edge-server cotrain open`` beside it on the same machine (as it comes: lower priority,
waiting while the server's queue is long) and three real devices of it with the demo's clips. Questions come
at random moments, few a second. Round and devices are stopped (SIGSTOP) in every other turn: what is compared
are neighbours in time, on the same machine with the same connections. Devices compute on this machine too, at
the round's priority, which the edge of a real cell would not pay.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from deploy.loadtest.generator import open_loop
from deploy.loadtest.measurement import Measurement
from deploy.loadtest.running import Held, held
from deploy.loadtest.users import Users
from edge_server.cotrain.process import lower_priority
from edge_server.model.provenance import current_commit
from tests.benchmarks.device_report import machine
from tests.benchmarks.serving.row import spread
from tests.benchmarks.serving.served import ServedModel, serving

MOST_TIMES = 1.3
PROMISED = "Serving meanwhile, light load: p99 over that without"
CLIPS = Path("deploy/demo/clips")
_USERS = 4
_STARTED_WITHIN_S = 180.0
_ROUNDS = 1_000_000
"""More than are made."""


class Round:
    """A round with its devices, in processes.

    Args:
        processes: of the edge first, then of devices.
        state: folder of the round.
    """

    def __init__(self, processes: Sequence[subprocess.Popen[bytes]], state: Path) -> None:
        self._processes, self._state = processes, state

    def go_on(self, *, on: bool) -> None:
        """Let all of it run, or stand still."""
        for each in self._processes:
            each.send_signal(signal.SIGCONT if on else signal.SIGSTOP)

    def step(self) -> int:
        """Steps that are made; 0 before the first is written down."""
        try:
            return int(json.loads((self._state / "status.json").read_text(encoding="utf-8"))["step"])
        except (OSError, ValueError, KeyError):
            return 0


@asynccontextmanager
async def learning(model: Path, metrics: str, scratch: Path) -> AsyncIterator[Round]:
    """A round that learns, with three devices."""
    examples, state = scratch / "examples", scratch / "round"
    _write_examples(examples)
    started: list[subprocess.Popen[bytes]] = []

    def start(module: str, *arguments: str) -> subprocess.Popen[bytes]:
        entry = f"from {module} import main; main()"
        with (scratch / f"{len(started)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", entry, *arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                preexec_fn=partial(lower_priority, beside=True),
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
        started.append(process)
        return process

    try:
        edge = start(
            "edge_server.cli",
            *("cotrain", "open", "--model", str(model), "--state", str(state), "--rounds", str(_ROUNDS)),
            *("--port", "0", "--metrics", metrics, "--json"),
        )
        assert edge.stdout is not None
        port = json.loads(await asyncio.to_thread(edge.stdout.readline))["port"]
        for number in range(3):
            start(
                "device_agent.cli.start",
                *("cotrain", "--server", f"127.0.0.1:{port}", "--port", str(port)),
                *("--device-id", f"device-{number}", "--examples", str(examples)),
                *("--bundle", str(model / "bundle"), "--state", str(scratch / f"device-{number}")),
            )
        found = Round(started, state)
        async with asyncio.timeout(_STARTED_WITHIN_S):
            while found.step() < 3:
                await asyncio.sleep(0.2)
        yield found
    finally:
        for each in started:
            each.kill()
            each.wait()


def _write_examples(folder: Path) -> None:
    """The demo's clips, one of them held out."""
    folder.mkdir()
    lines = []
    for index, clip in enumerate(sorted(CLIPS.glob("*.mp4"))[:3]):
        shutil.copyfile(clip, folder / clip.name)
        told = {
            "question": "Is there a voiceover?",
            "answer": "yes",
            "split": "val" if index == 2 else "train",
        }
        lines.append(json.dumps({"media": clip.name, **told}))
    (folder / "questions.jsonl").write_text("\n".join(lines), encoding="utf-8")


async def measure(model: Path, turns: int, seconds: float, rate_hz: float, seed: int) -> dict[str, Any]:
    """Turns alone and beside, one after the other."""
    alone_s: list[float] = []
    beside_s: list[float] = []
    steps = 0
    with tempfile.TemporaryDirectory() as scratch:
        async with (
            serving(model) as served,
            learning(model, f"{served.rest}/metrics", Path(scratch)) as beside,
        ):
            users = served.users(_USERS, seed, modalities=(("video", "audio"),))
            target = served.target(users_per_channel=1)
            async with held(target, users.numbers) as (door, _):
                beside.go_on(on=False)
                await _asked(door, users, seconds / 4, rate_hz, seed)  # what comes first is slower
                for turn in range(turns):
                    for on in (False, True) if turn % 2 == 0 else (True, False):
                        beside.go_on(on=on)
                        begun = beside.step()
                        counted = await _asked(door, users, seconds, rate_hz, seed + turn)
                        (beside_s if on else alone_s).append(counted.latencies.at(99))
                        steps += beside.step() - begun
            await target.close()
            load = os.getloadavg()[2]
            await _settled(served)
    ratio = spread([b / a for a, b in zip(alone_s, beside_s, strict=True)])
    alone, besides = spread(alone_s), spread(beside_s)
    sides = {"beside a round [s]": besides["median"], "alone [s]": alone["median"]}
    return {
        "command": "python -m tests.benchmarks.cotrain_serving",
        "measures": [
            "edge_server/cotrain/process.py",
            "edge_server/cotrain/pausing.py",
            "edge_server/engine",
        ],
        "commit": current_commit(),
        "model": model.name,
        "machine": machine(),
        "load_of_machine": load,
        "rate_hz": rate_hz,
        "seconds_a_turn": seconds,
        "steps": steps,
        "alone_p99_s": alone,
        "beside_p99_s": besides,
        "p99_ratio": ratio,
        "promises": [
            {
                "what": PROMISED,
                "measured": ratio["median"],
                "met": bool(ratio["median"] <= MOST_TIMES and steps > 0),
                "sides": sides,
            }
        ],
    }


async def _asked(door: Held, users: Users, seconds: float, rate_hz: float, seed: int) -> Measurement:
    rng = random.Random(seed)
    return await open_loop(door, users.numbers, users.draw, rate_hz, seconds, rng=rng)


async def _settled(served: ServedModel) -> None:
    """Nothing waits any more."""
    await served.settled()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Serving beside a co-training round.")
    parser.add_argument("--out", type=Path, required=True, help="JSON")
    parser.add_argument("--model", type=Path, default=Path("deploy/models/soundstage-small"))
    parser.add_argument("--turns", type=int, default=7, help="with the round, and as many without")
    parser.add_argument("--seconds", type=float, default=15.0, help="of a turn")
    parser.add_argument("--rate-hz", type=float, default=5.0, help="questions a second")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    found = asyncio.run(measure(options.model, options.turns, options.seconds, options.rate_hz, options.seed))
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found["promises"], indent=1))


if __name__ == "__main__":
    main()
