"""Hostile media over REST and at the agent: what each file costs, and what it does to everybody else.

one by one:  file ──▶ REST ─▶ its worker: CPU time, memory       file ──▶ agent: the same
in turns:    the others alone │ the others beside files, two at a time │ the others alone │ ...
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import psutil

from edge_server.server.config import ServerConfig
from tests.chaos.bystanders import Crowd, Fared, Where, ask_beside, process_apart
from tests.chaos.hostile_files.corpus import HostileFile, hostile_file
from tests.chaos.row import Row, Scale, Settled, at_most, exactly
from tests.chaos.watched import ROOT, Watched, WatchedServer, edge_server, growth_of

COUNT: Mapping[Scale, int] = MappingProxyType({"test": 8, "quick": 24, "full": 400})
TURNS: Mapping[Scale, int] = MappingProxyType({"test": 1, "quick": 1, "full": 8})
TURN_S: Mapping[Scale, float] = MappingProxyType({"test": 2.0, "quick": 5.0, "full": 15.0})
SEED = 1
MOST_BYTES = 300 * 10**6
MOST_PAST_S = 2.0
MOST_TIMES_SLOWER = 1.5
_AT_ONCE = 2
_STRANGER = "127.0.0.2"
_WITHIN_S = 180.0
_SUFFIXES = MappingProxyType({"video": ".mp4", "audio": ".wav", "image": ".png"})
_CLIP = Path(__file__).resolve().parents[3] / "deploy/demo/clips/soundstage_test_000001.mp4"
_COST = "400 hostile media at REST and agent: over 300 MB in all, or 2 s of CPU each past the limit"
_OTHERS = "400 hostile media: p99 of the others over that without"


@dataclass(frozen=True)
class Cost:
    """What one file cost.

    Attributes:
        name: of the file.
        size: of it [bytes].
        status: over REST; 0: no answer came.
        seconds: until the answer.
        cpu_s: of the server and all that it started.
        growth_bytes: of their memory.
    """

    name: str
    size: int
    status: int
    seconds: float
    cpu_s: float
    growth_bytes: int

    def is_too_much(self, limit_s: float) -> bool:
        """Whether it passed one of the bounds."""
        return self.growth_bytes > MOST_BYTES or self.cpu_s > limit_s + MOST_PAST_S


async def run(scale: Scale, folder: Path) -> Row:
    """All of it."""
    limit_s = ServerConfig().media.max_decode_s
    with edge_server() as server:
        where = Where(server.doors.grpc, server.doors.rest)
        costs = await asyncio.to_thread(_one_by_one, server, COUNT[scale])
        at_agent, agent_ended = await asyncio.to_thread(watched_one_by_one, server, folder, COUNT[scale])
        alone, beside, sent = await _in_turns(where, scale)
        alive = server.alive
    over = [each for each in costs if each.is_too_much(limit_s)]
    over_at_agent = [each for each in at_agent if each.is_too_much(limit_s)]
    slower = beside.p99_s("grpc", "rest") / alone.p99_s("grpc", "rest")
    unanswered = sum(alone.failed.values()) + sum(beside.failed.values())
    sides = {"beside [s]": beside.p99_s("grpc", "rest"), "alone [s]": alone.p99_s("grpc", "rest")}
    return Row(
        "Hostile media",
        f"{len(costs)} files of seed {SEED}, each over REST and in an agent's watched folder; {sent} beside "
        f"{sum(beside.asked.values())} questions of others, {TURNS[scale]} turns of {TURN_S[scale]:g} s",
        [
            exactly("REST: over 300 MB in all, or 2 s of CPU past the limit", len(over), 0),
            exactly("REST: without an answer", sum(each.status == 0 for each in costs) + (not alive), 0),
            exactly("agent: over 300 MB in all, or 2 s of CPU past the limit", len(over_at_agent), 0),
            exactly("agent: told nothing of a file", sum(each.status == 0 for each in at_agent), 0),
            exactly("the agent ended", int(agent_ended), 0),
            at_most("p99 of the others, times as slow as alone", slower, MOST_TIMES_SLOWER),
            exactly("questions of others without an answer", unanswered, 0),
        ],
        {
            "statuses": dict(Counter(str(each.status) for each in costs)),
            "costliest": _most(costs, lambda each: each.cpu_s),
            "largest": _most(costs, lambda each: each.growth_bytes),
            "at_agent": {
                "answered": sum(each.status == 200 for each in at_agent),
                "costliest": _most(at_agent, lambda each: each.cpu_s),
                "largest": _most(at_agent, lambda each: each.growth_bytes),
            },
            "media_p99_s": {"alone": alone.p99_s("media"), "beside": beside.p99_s("media")},
            "failed": {"alone": dict(alone.failed), "beside": dict(beside.failed)},
        },
        [
            Settled(
                _COST,
                len(over) + len(over_at_agent),
                not over and not over_at_agent and alive and not agent_ended,
            ),
            Settled(_OTHERS, round(slower, 3), slower <= MOST_TIMES_SLOWER, sides),
        ],
    )


def _most(costs: Sequence[Cost], what: Callable[[Cost], float]) -> list[dict[str, Any]]:
    return [asdict(each) for each in sorted(costs, key=what, reverse=True)[:8]]


def body_of(kind: str, data: bytes) -> dict[str, Any]:
    """A request about a file."""
    coded = base64.b64encode(data).decode()
    return {"question": "Is there a banjo sound?", "media": [{"type": kind, "data": coded}]}


def _body(file: HostileFile) -> dict[str, Any]:
    return body_of(file.kind, file.data)


def _one_by_one(server: WatchedServer, count: int) -> list[Cost]:
    with httpx.Client(base_url=server.doors.rest, timeout=_WITHIN_S) as http:
        for _ in range(2):  # both workers have decoded something, and libraries are there
            http.post("/v1/infer", json=_body(HostileFile("honest", "video", _CLIP.read_bytes())))
        return [_cost(server, http, hostile_file(number, SEED)) for number in range(count)]


def _cost(server: WatchedServer, http: httpx.Client, file: HostileFile) -> Cost:
    body = _body(file)
    with growth_of(server, 0.02) as growth, _cpu_of(server) as cpu_s:
        began = time.monotonic()
        try:
            status = http.post("/v1/infer", json=body).status_code
        except httpx.HTTPError:
            status = 0
        seconds = time.monotonic() - began
    return Cost(file.name, len(file.data), status, round(seconds, 2), round(cpu_s[0], 2), growth.most_bytes)


def watched_one_by_one(server: WatchedServer, folder: Path, count: int) -> tuple[list[Cost], bool]:
    """What each file costs an agent that watches a folder; and whether the agent ended.

    It has the limits of the server: by default an agent's are those for files of one's own.
    """
    limits = ServerConfig().media
    watched = folder / "watched"
    watched.mkdir()
    command = [
        *(sys.executable, "-c", "from device_agent.cli import main; main()", "watch", str(watched)),
        *("Is there a banjo sound?", "--json", "--poll-s", "0.05", "--outbox", str(folder / "outbox.db")),
    ]
    told = {
        "TOKENLINK_DEVICE_SERVER": server.doors.grpc,
        "TOKENLINK_DEVICE_MEDIA_MAX_DECODE_S": f"{limits.max_decode_s:g}",
        "TOKENLINK_DEVICE_MEDIA_MAX_MEMORY_BYTES": str(limits.max_memory_bytes),
    }
    shown = folder / "shown.jsonl"
    with (
        shown.open("wb") as out,
        subprocess.Popen(
            command, cwd=ROOT, env=os.environ | told, stdout=out, stderr=out, start_new_session=True
        ) as agent,
    ):
        try:
            process = Watched(agent.pid)
            for number in range(2):
                _watched(process, shown, watched / f"warm-{number}.mp4", _CLIP.read_bytes())
            costs = []
            for number in range(count):
                file = hostile_file(number, SEED)
                cost = _watched(process, shown, watched / f"{number}{_SUFFIXES[file.kind]}", file.data)
                costs.append(replace(cost, name=file.name))
            return costs, agent.poll() is not None
        finally:
            agent.terminate()


def _watched(agent: Watched, shown: Path, path: Path, data: bytes) -> Cost:
    draft = path.with_name(f".{path.name}")
    draft.write_bytes(data)
    status = 0
    with growth_of(agent, 0.02) as growth, _cpu_of(agent) as cpu_s:
        began = time.monotonic()
        draft.rename(path)
        while time.monotonic() < began + _WITHIN_S and psutil.pid_exists(agent.pid):
            line = next((each for each in shown.read_text().splitlines() if f"/{path.name}" in each), None)
            if line is not None:
                status = 200 if "answer" in json.loads(line) else 400
                break
            time.sleep(0.02)
        seconds = time.monotonic() - began
    path.unlink(missing_ok=True)
    return Cost(path.name, len(data), status, round(seconds, 2), round(cpu_s[0], 2), growth.most_bytes)


@contextlib.contextmanager
def _cpu_of(server: Watched) -> Iterator[list[float]]:
    """CPU time of a server and what it started meanwhile [s]; of those that ended their parent has it."""
    found = [0.0]
    process = psutil.Process(server.pid)

    def used_s() -> float:
        times = process.cpu_times()
        total = times.user + times.system + times.children_user + times.children_system
        for each in server.decoders():
            with contextlib.suppress(psutil.NoSuchProcess):
                own = each.cpu_times()
                total += own.user + own.system
        return float(total)

    before = used_s()
    yield found
    found[0] = used_s() - before


async def _in_turns(where: Where, scale: Scale) -> tuple[Fared, Fared, int]:
    """The others without hostile files and beside them, in turns; how many files were sent."""
    crowd = Crowd(devices=8, each_hz=2.0, texts_hz=4.0, media=_CLIP, media_hz=0.5)
    loop = asyncio.get_running_loop()
    alone, beside, sent = Fared(), Fared(), 0
    with process_apart() as others, process_apart() as strangers:
        await loop.run_in_executor(others, ask_beside, where, crowd, TURN_S[scale] / 2, 0)  # warm
        for turn in range(TURNS[scale]):
            alone.add(
                await loop.run_in_executor(others, ask_beside, where, crowd, TURN_S[scale], 2 * turn + 1)
            )
            attack = loop.run_in_executor(strangers, _send, where.rest, turn, TURN_S[scale])
            beside.add(
                await loop.run_in_executor(others, ask_beside, where, crowd, TURN_S[scale], 2 * turn + 2)
            )
            sent += await attack
    return alone, beside, sent


def _send(rest: str, turn: int, seconds: float) -> int:
    """Send files, two at a time, for so long; in a process apart."""
    return asyncio.run(_send_all(rest, turn, seconds))


async def _send_all(rest: str, turn: int, seconds: float) -> int:
    until_s, numbers = time.monotonic() + seconds, iter(range(turn * 50, 10**6))
    sent = 0

    async def go_on() -> None:
        nonlocal sent
        transport = httpx.AsyncHTTPTransport(local_address=_STRANGER)
        async with httpx.AsyncClient(base_url=rest, transport=transport, timeout=_WITHIN_S) as http:
            while time.monotonic() < until_s:
                file = await asyncio.to_thread(hostile_file, next(numbers) % COUNT["full"], SEED)
                left_s = until_s - time.monotonic()
                with contextlib.suppress(httpx.HTTPError, TimeoutError):
                    # Who goes away leaves the server with the work.
                    async with asyncio.timeout(max(left_s, 0.0)):
                        await http.post("/v1/infer", json=_body(file))
                sent += 1

    await asyncio.gather(*(go_on() for _ in range(_AT_ONCE)))
    return sent
