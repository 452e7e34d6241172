"""What hardening costs the honest: the server as it was before, and as it is, asked in turns.

Both serve the same model on the same machine and run all the time; only the one whose turn it is is asked.
The server of before is run from its commit, in a worktree that is removed afterwards.

Judged is how many answers a second of processor time gives: that bounds a server which is asked as much as it
can answer, and nobody else on the machine changes it. Answers per second of the clock stand beside it, and
so does the present server with a model that has no calibration: the one of before did not tell how sure an
answer is, so the difference is what that costs, and the rest what hardening does. It settles nothing.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import psutil

from deploy.loadtest.generator import closed_loop
from deploy.loadtest.grpc_target import GrpcTarget, bundle_of
from deploy.loadtest.profile import Group
from deploy.loadtest.running import held
from deploy.loadtest.users import Users
from edge_server.engine.calibration import FILE as CALIBRATION
from tests.chaos.row import Row, Scale, Settled, at_least, exactly
from tests.chaos.watched import ROOT, WatchedServer, edge_server

BEFORE = "13d80d51"
"""The last commit before anything was hardened."""
MODEL = ROOT / "deploy/models/soundstage-small"
TURNS: Mapping[Scale, int] = MappingProxyType({"test": 1, "quick": 1, "full": 32})
TURN_S: Mapping[Scale, float] = MappingProxyType({"test": 1.0, "quick": 2.0, "full": 3.0})
USERS, SENDERS = 32, 4
LEAST, LEAST_MEDIA = 0.97, 0.9
_CLIP = ROOT / "deploy/demo/clips/soundstage_test_000001.mp4"
_WITHIN_S = 120.0
_THROUGHPUT = "Throughput of honest traffic over that before"
_MEDIA = "Media over REST over that before"


@dataclass
class Counted:
    """What one server answered, turn by turn.

    Attributes:
        answered: questions over gRPC.
        answered_hz: the same per second.
        cpu_s: processor time that they took.
        p50_s: how long one took.
        media: questions about a clip over REST.
        media_hz: the same per second.
        media_cpu_s: processor time that they took.
        unanswered: of either.
    """

    answered: list[int] = field(default_factory=list)
    answered_hz: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    p50_s: list[float] = field(default_factory=list)
    media: list[int] = field(default_factory=list)
    media_hz: list[float] = field(default_factory=list)
    media_cpu_s: list[float] = field(default_factory=list)
    unanswered: int = 0


async def run(scale: Scale, folder: Path) -> Row:
    """In turns."""
    settings = {"model": MODEL, "ui": "off"}
    found = {"now": Counted(), "before": Counted(), "unjudged": Counted()}
    unjudged_model = folder / "unjudged" / MODEL.name
    shutil.copytree(MODEL, unjudged_model, ignore=shutil.ignore_patterns(CALIBRATION))
    with (
        worktree(BEFORE, folder / "before") as old,
        edge_server(settings) as now,
        edge_server(settings, environment={"PYTHONPATH": str(old)}, folder=old) as before,
        edge_server({**settings, "model": unjudged_model}) as unjudged,
    ):
        servers = {"now": now, "before": before, "unjudged": unjudged}
        for turn in range(-1, TURNS[scale]):
            # Who comes first changes with each turn.
            for name in islice(
                cycle(sorted(servers)), turn % len(servers), turn % len(servers) + len(servers)
            ):
                counted = found[name] if turn >= 0 else Counted()
                await _ask(servers[name], TURN_S[scale], counted)
                await _send(servers[name], TURN_S[scale], counted)
    per_cpu = {name: sum(each.answered) / sum(each.cpu_s) for name, each in found.items()}
    media = {name: sum(each.media) / sum(each.media_cpu_s) for name, each in found.items()}
    p50_s = {name: statistics.median(each.p50_s) for name, each in found.items()}
    hz = {name: statistics.fmean(each.answered_hz) for name, each in found.items()}
    media_hz = {name: statistics.fmean(each.media_hz) for name, each in found.items()}
    ratio, media_ratio = per_cpu["now"] / per_cpu["before"], media["now"] / media["before"]
    unit = "of processor time [/s]"
    return Row(
        "Honest traffic",
        f"{USERS} users over gRPC, {SENDERS} that send a clip over REST, now and at {BEFORE}: {TURNS[scale]} "
        f"turns of {TURN_S[scale]:g} s each",
        [
            at_least("answers per second of processor time, as a share of those before", ratio, LEAST),
            at_least("the same of clips by REST", media_ratio, LEAST_MEDIA),
            exactly("questions without an answer", found["now"].unanswered, 0),
        ],
        {
            "without_telling_how_sure": per_cpu["unjudged"] / per_cpu["before"],
            "by_the_clock": {
                "throughput_ratio": hz["now"] / hz["before"],
                "latency_ratio": p50_s["before"] / p50_s["now"],
                "media_ratio": media_hz["now"] / media_hz["before"],
            },
            **{name: vars(each) for name, each in found.items()},
        },
        [
            Settled(
                _THROUGHPUT,
                round(ratio, 3),
                ratio >= LEAST,
                {f"now, {unit}": per_cpu["now"], f"before, {unit}": per_cpu["before"]},
            ),
            Settled(
                _MEDIA,
                round(media_ratio, 3),
                media_ratio >= LEAST_MEDIA,
                {f"now, {unit}": media["now"], f"before, {unit}": media["before"]},
            ),
        ],
    )


def _cpu_s(server: WatchedServer) -> float:
    """Processor time that a server and all that it started have used [s]."""
    total = 0.0
    for process in (psutil.Process(server.pid), *server.family()):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


@contextlib.contextmanager
def worktree(commit: str, folder: Path) -> Iterator[Path]:
    """The tree of a commit.

    Raises:
        RuntimeError: this checkout does not have it.
    """
    made = subprocess.run(
        ["git", "worktree", "add", "--detach", str(folder), commit],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise RuntimeError(f"{commit} cannot be had: {made.stderr.strip()[-200:]}")
    try:
        yield folder
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(folder)], cwd=ROOT, check=False)


async def _ask(server: WatchedServer, seconds: float, counted: Counted) -> None:
    bundle = await asyncio.to_thread(bundle_of, server.doors.grpc)
    users = Users(Group.model_validate({"count": USERS, "token_lengths": (16,)}), bundle, 0, 1)
    target = GrpcTarget(server.doors.grpc, bundle.hash)
    try:
        async with held(target, users.numbers) as (door, _):
            before_s = _cpu_s(server)
            done = await closed_loop(door, users.numbers, users.draw, seconds)
    finally:
        await target.close()
    counted.cpu_s.append(_cpu_s(server) - before_s)
    counted.answered.append(done.outcomes["answered"])
    counted.answered_hz.append(done.answered_hz)
    counted.p50_s.append(done.latencies.at(50))
    counted.unanswered += done.sent - done.outcomes["answered"]


async def _send(server: WatchedServer, seconds: float, counted: Counted) -> None:
    data = base64.b64encode(_CLIP.read_bytes()).decode()
    answered, began_s, before_s = 0, time.monotonic(), _cpu_s(server)
    until_s = began_s + seconds

    async def go_on(user: int) -> None:
        nonlocal answered
        body: dict[str, Any] = {
            "question": "Is there a banjo sound?",
            "user": f"sender-{user}",
            "media": [{"type": "video", "data": data}],
        }
        async with httpx.AsyncClient(base_url=server.doors.rest, timeout=_WITHIN_S) as http:
            while time.monotonic() < until_s:
                reply = await http.post("/v1/infer", json=body)
                answered += reply.status_code == 200
                counted.unanswered += reply.status_code != 200

    await asyncio.gather(*(go_on(user) for user in range(SENDERS)))
    counted.media_cpu_s.append(_cpu_s(server) - before_s)
    counted.media.append(answered)
    counted.media_hz.append(answered / (time.monotonic() - began_s))
