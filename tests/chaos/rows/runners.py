"""Runners killed, stopped, replaced by another model, unable to start, again and again under load.

    fault ──▶ both runners compute again? ──▶ a moment ──▶ next fault          while users ask all the time

After each fault it is waited until as many runners compute as before; how long that takes counts from the
moment at which there is nothing in their way any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

import httpx
import psutil
from safetensors.numpy import load_file, save_file

from tests.chaos.bystanders import process_apart
from tests.chaos.known import Asking, Ending, answers_of, ask_known, wrong
from tests.chaos.row import Row, Scale, Settled, at_most, exactly
from tests.chaos.watched import WatchedServer, edge_server

FAULTS: Mapping[Scale, int] = MappingProxyType({"test": 4, "quick": 8, "full": 200})
REFERENCE_S: Mapping[Scale, float] = MappingProxyType({"test": 8.0, "quick": 8.0, "full": 60.0})
BATCHES = 2
BACK_WITHIN_S = 10.0
MODEL = Path(__file__).resolve().parents[3] / "deploy/models/soundstage-small"
SEED = 18
_PATIENCE_S = 120.0
_PAUSE_S = 0.3
_AWAY_S = 2.0
_PROMISE = "Runners killed, stopped, replaced by another model, unable to start: 200 times under load"


@dataclass(frozen=True)
class Hurt:
    """A fault that was caused.

    Attributes:
        kind: of the fault.
        begun_s: when [monotonic s].
        cleared_s: when nothing was in the way of runners any more.
        whole_s: when all computed again.
        none_lived: whether there was none at all for a while.
    """

    kind: str
    begun_s: float
    cleared_s: float
    whole_s: float
    none_lived: bool

    @property
    def back_s(self) -> float:
        """How long it took to be whole again."""
        return self.whole_s - self.cleared_s


class Faults:
    """What can be done to the runners of a server.

    Args:
        server: whose.
        model: the folder that it was told to serve.
        scratch: where it keeps its copy.
        rng: which runner.
    """

    def __init__(self, server: WatchedServer, model: Path, scratch: Path, rng: random.Random) -> None:
        self._server, self._model, self._rng = server, model, rng
        (self._copy,) = scratch.glob("*/model")
        weights = load_file(model / "foundation.safetensors")
        self._other = model.parent / "other.safetensors"
        save_file({name: -tensor for name, tensor in weights.items()}, self._other)

    def kinds(self) -> Mapping[str, tuple[int, Callable[[], Awaitable[None]]]]:
        """Each fault, with how often it comes among others."""
        return {
            "killed": (5, self.kill),
            "all killed": (2, self.kill_all),
            "stopped": (4, self.stop),
            "another model in the folder, killed": (3, self.replace),
            "folder away, killed": (1, self.remove),
            "unable to start": (3, self.prevent),
            "killed while it starts": (1, self.kill_newborn),
            "fork server killed": (1, self.kill_fork_server),
        }

    async def kill(self) -> None:
        """One."""
        self._one().kill()

    async def kill_all(self) -> None:
        """All at once."""
        for each in self._server.runners():
            each.kill()

    async def stop(self) -> None:
        """One stands still, and says nothing."""
        self._one().suspend()

    async def replace(self) -> None:
        """Another model is copied over the one that is served, and one dies."""
        shutil.copyfile(self._other, self._model / "foundation.safetensors")
        self._one().kill()

    async def remove(self) -> None:
        """The folder that is served goes away for good, and one dies."""
        shutil.rmtree(self._model, ignore_errors=True)
        self._one().kill()
        await asyncio.sleep(_AWAY_S)
        shutil.copytree(MODEL, self._model)

    async def prevent(self) -> None:
        """The copy that runners are made from is not there for a while, and one dies."""
        away = self._copy.with_name("away")
        self._copy.rename(away)
        self._one().kill()
        await asyncio.sleep(_AWAY_S)
        away.rename(self._copy)

    async def kill_newborn(self) -> None:
        """One dies, and the next one before it computes."""
        known = {each.pid for each in self._server.runners()}
        self._one().kill()
        until_s = time.monotonic() + _AWAY_S
        while time.monotonic() < until_s:
            for each in self._server.runners():
                if each.pid not in known:
                    each.kill()
                    return
            await asyncio.sleep(0.002)

    async def kill_fork_server(self) -> None:
        """The process that runners are forked from."""
        for each in self._server.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                if "forkserver" in " ".join(each.cmdline()) and each.ppid() == self._server.pid:
                    each.kill()
                    return

    def _one(self) -> psutil.Process:
        return self._rng.choice(self._server.runners())


async def run(scale: Scale, folder: Path) -> Row:
    """Fault after fault, under load."""
    model = folder / "served"
    shutil.copytree(MODEL, model)
    scratch = folder / "tmp"
    scratch.mkdir()
    loop = asyncio.get_running_loop()
    settings = {"model": model, "batches": BATCHES, "ui": "off"}
    with (
        edge_server(settings, environment={"TMPDIR": str(scratch)}) as server,
        process_apart() as users,
    ):
        asking = Asking(server.doors.grpc, each_alone=True)
        reference = await loop.run_in_executor(users, ask_known, asking, REFERENCE_S[scale])
        right = answers_of(reference)
        faults = Faults(server, model, scratch, random.Random(SEED))
        plan = _plan(faults, FAULTS[scale])
        hurts: list[Hurt] = []
        endings: list[Ending] = []
        done = asyncio.Event()

        async def ask() -> None:
            # In pieces, so that no more is asked once the faults are through.
            piece = 0
            while not done.is_set():
                piece += 1
                endings.extend(
                    await loop.run_in_executor(users, ask_known, Asking(asking.address, seed=piece), 20.0)
                )

        asks = asyncio.create_task(ask())
        async with httpx.AsyncClient(base_url=server.doors.rest, timeout=5.0) as http:
            for kind in plan:
                hurts.append(await _hurt(server, http, kind, faults.kinds()[kind][1]))
                if not server.alive:
                    break
                await asyncio.sleep(_PAUSE_S)
        done.set()
        await asks
        alive = server.alive
    return _row(scale, hurts, endings, right, alive)


def _plan(faults: Faults, count: int) -> list[str]:
    """Kinds as often as they come, in any order; each at least once where there is room."""
    kinds = [kind for kind, (weight, _) in faults.kinds().items() for _ in range(weight)]
    plan = [kinds[number % len(kinds)] for number in range(count)]
    if count < len(kinds):
        plan = (list(faults.kinds()) * 2)[:count]
    random.Random(SEED).shuffle(plan)
    return plan


async def _hurt(
    server: WatchedServer, http: httpx.AsyncClient, kind: str, cause: Callable[[], Awaitable[None]]
) -> Hurt:
    before = {each.pid for each in server.runners()}
    begun_s = time.monotonic()
    await cause()
    cleared_s = time.monotonic()
    replaced = kind != "fork server killed"
    none_lived, until_s = kind == "all killed", time.monotonic() + _PATIENCE_S
    while time.monotonic() < until_s and server.alive:
        now = {each.pid for each in server.runners() if _runs(each)}
        if len(now) >= BATCHES and (now != before) == replaced and await _says_ready(http):
            return Hurt(kind, begun_s, cleared_s, time.monotonic(), none_lived)
        await asyncio.sleep(0.02)
    return Hurt(kind, begun_s, cleared_s, float("inf"), none_lived)


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE))
    return False


async def _says_ready(http: httpx.AsyncClient) -> bool:
    try:
        reply = await http.get("/readyz")
    except httpx.HTTPError:
        return False
    return reply.status_code == 200 and bool(reply.json()["status"] == "ready")


def _row(
    scale: Scale,
    hurts: Sequence[Hurt],
    endings: Sequence[Ending],
    right: Mapping[int, frozenset[str]],
    alive: bool,
) -> Row:
    wrongs = wrong(endings, right)
    lost = [each for each in endings if each.why == "lost"]
    failed = [each for each in endings if each.answer is None and each.why != "lost"]
    unexcused = [each for each in failed if not _none_lived_during(each, hurts)]
    slowest = max(hurts, key=lambda each: each.back_s)
    checks = [
        exactly("faults", len(hurts), FAULTS[scale]),
        exactly("wrong answers", len(wrongs), 0),
        exactly("questions lost", len(lost), 0),
        exactly("questions that failed while a runner lived", len(unexcused), 0),
        at_most("all runners back [s]", slowest.back_s, BACK_WITHIN_S),
        exactly("the server ended", int(not alive), 0),
    ]
    told = (
        f"{len(wrongs)} wrong, {len(lost)} lost, {len(unexcused)} failed while a runner lived; "
        f"back within {slowest.back_s:.1f} s"
    )
    kinds = Counter(each.kind for each in hurts)
    return Row(
        "Runners",
        f"{len(hurts)} faults beside {len(endings)} questions: "
        + ", ".join(f"{kind} {count}" for kind, count in kinds.items()),
        checks,
        {
            "back_s": {
                kind: {
                    "median": sorted(each.back_s for each in hurts if each.kind == kind)[kinds[kind] // 2],
                    "most": max(each.back_s for each in hurts if each.kind == kind),
                }
                for kind in kinds
            },
            "failed": dict(Counter(each.why for each in failed)),
            "wrong": [asdict(each) for each in wrongs[:10]],
            "several_right_answers": sum(len(answers) > 1 for answers in right.values()),
            "answered": sum(each.answer is not None for each in endings),
        },
        [Settled(_PROMISE, told, all(check.kept for check in checks))],
    )


def _none_lived_during(ending: Ending, hurts: Sequence[Hurt]) -> bool:
    return any(
        each.none_lived and each.begun_s <= ending.ended_s and ending.asked_s <= each.whole_s
        for each in hurts
    )
