"""What hardening costs the honest: the server as it was before, and as it is, asked in turns.

Both serve the same model on the same machine and run all the time; only the one whose turn it is is asked.
The server of before is run from its commit, in a worktree that is removed afterwards.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx

from deploy.loadtest.generator import closed_loop
from deploy.loadtest.grpc_target import GrpcTarget, bundle_of
from deploy.loadtest.profile import Group
from deploy.loadtest.running import held
from deploy.loadtest.users import Users
from tests.chaos.row import Row, Scale, Settled, at_least, exactly
from tests.chaos.watched import ROOT, WatchedServer, edge_server

BEFORE = "13d80d51"
"""The last commit before anything was hardened."""
MODEL = ROOT / "deploy/models/soundstage-small"
TURNS: Mapping[Scale, int] = MappingProxyType({"test": 1, "quick": 1, "full": 24})
TURN_S: Mapping[Scale, float] = MappingProxyType({"test": 1.0, "quick": 2.0, "full": 4.0})
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
        answered_hz: questions over gRPC.
        p50_s: of them.
        media_hz: questions about a clip over REST.
        unanswered: of either.
    """

    answered_hz: list[float] = field(default_factory=list)
    p50_s: list[float] = field(default_factory=list)
    media_hz: list[float] = field(default_factory=list)
    unanswered: int = 0


async def run(scale: Scale, folder: Path) -> Row:
    """In turns."""
    settings = {"model": MODEL, "ui": "off"}
    found = {"now": Counted(), "before": Counted()}
    with (
        worktree(BEFORE, folder / "before") as old,
        edge_server(settings) as now,
        edge_server(settings, environment={"PYTHONPATH": str(old)}, folder=old) as before,
    ):
        servers = {"now": now, "before": before}
        for turn in range(-1, TURNS[scale]):
            # Who comes first changes with each turn.
            for name in sorted(servers, reverse=turn % 2 == 0):
                counted = found[name] if turn >= 0 else Counted()
                await _ask(servers[name], TURN_S[scale], counted)
                await _send(servers[name], TURN_S[scale], counted)
    hz = {name: statistics.fmean(each.answered_hz) for name, each in found.items()}
    media_hz = {name: statistics.fmean(each.media_hz) for name, each in found.items()}
    p50_s = {name: statistics.median(each.p50_s) for name, each in found.items()}
    ratio, media = hz["now"] / hz["before"], media_hz["now"] / media_hz["before"]
    return Row(
        "Honest traffic",
        f"{USERS} users over gRPC, {SENDERS} that send a clip over REST, now and at {BEFORE}: {TURNS[scale]} "
        f"turns of {TURN_S[scale]:g} s each",
        [
            at_least("throughput, now over before", ratio, LEAST),
            at_least("latency, before over now", p50_s["before"] / p50_s["now"], LEAST),
            at_least("media over REST, now over before", media, LEAST_MEDIA),
            exactly("questions without an answer", found["now"].unanswered, 0),
        ],
        {name: vars(each) for name, each in found.items()},
        [
            Settled(
                _THROUGHPUT,
                round(ratio, 3),
                ratio >= LEAST,
                {"now [/s]": hz["now"], "before [/s]": hz["before"]},
            ),
            Settled(
                _MEDIA,
                round(media, 3),
                media >= LEAST_MEDIA,
                {"now [/s]": media_hz["now"], "before [/s]": media_hz["before"]},
            ),
        ],
    )


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
            done = await closed_loop(door, users.numbers, users.draw, seconds)
    finally:
        await target.close()
    counted.answered_hz.append(done.answered_hz)
    counted.p50_s.append(done.latencies.at(50))
    counted.unanswered += done.sent - done.outcomes["answered"]


async def _send(server: WatchedServer, seconds: float, counted: Counted) -> None:
    data = base64.b64encode(_CLIP.read_bytes()).decode()
    answered, began_s = 0, time.monotonic()
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
    counted.media_hz.append(answered / (time.monotonic() - began_s))
