"""SIGTERM while something is wrong: whatever it is, the server has ended after its grace and five seconds.

Every state has a server of its own. Nothing that it started may be left.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import psutil

from edge_server.access import keys
from tests.authority import Device, Pki, make_pki
from tests.chaos.attacks.running import attack
from tests.chaos.attacks.target import Target
from tests.chaos.bystanders import Where, process_apart
from tests.chaos.hostile_files.chunks import wav_info
from tests.chaos.known import Asking, ask_known
from tests.chaos.row import Row, Scale, Settled, at_most, exactly
from tests.chaos.rows import hostile_media, rollouts, runners
from tests.chaos.watched import WatchedServer, edge_server
from tests.hostile_media import jpeg_of_scans

GRACE_S = 5.0
ENDED_WITHIN_S = GRACE_S + 5.0
_PATIENCE_S = 60.0
_STATE_S = 3.0
_PROMISE = "SIGTERM in any of these states"


@dataclass
class Scene:
    """A server, and what it takes to bring it into a state.

    Attributes:
        server: that is to end.
        model: folder that it serves.
        scratch: where it keeps its copy.
        pki: whose certificates it asks for.
        device: an enrolled device.
        key: for REST.
        apart: a process for users or attackers.
    """

    server: WatchedServer
    model: Path
    scratch: Path
    pki: Pki
    device: Device
    key: str
    apart: ProcessPoolExecutor

    def target(self, *, enrolled: bool) -> Target:
        """For attacks."""
        rest = self.server.doors.rest.replace("127.0.0.1", "localhost")
        target = Target(self.server.doors.grpc, rest, self.pki.root)
        if enrolled:
            target.certificate, target.key = self.device.credentials(), self.key
        return target

    def ask(self) -> None:
        """Questions under way, from now on."""
        credentials = self.device.credentials()
        asking = Asking(self.server.doors.grpc, users=8, each_hz=8.0, credentials=credentials)
        self.apart.submit(ask_known, asking, 2 * _STATE_S)

    def attack(self, whose: str, kind: str) -> None:
        """An attack, from now on."""
        self.apart.submit(attack, self.target(enrolled=whose == "enrolled"), whose, kind, 4 * _STATE_S)


State = Callable[[Scene], Awaitable[None]]
_RNG = random.Random(1)


async def _idle(scene: Scene) -> None:
    pass


async def _loaded(scene: Scene) -> None:
    scene.ask()
    await asyncio.sleep(_STATE_S)


async def _one_stopped(scene: Scene) -> None:
    await _loaded(scene)
    scene.server.runners()[0].suspend()


async def _all_stopped(scene: Scene) -> None:
    await _loaded(scene)
    for each in scene.server.runners():
        each.suspend()
    await asyncio.sleep(1.0)


async def _all_killed(scene: Scene) -> None:
    await _loaded(scene)
    for each in scene.server.runners():
        each.kill()


async def _fork_server_killed(scene: Scene) -> None:
    await _loaded(scene)
    faults = runners.Faults(scene.server, scene.model, scene.scratch, _RNG)
    await faults.kill_fork_server()


async def _unable_to_start(scene: Scene) -> None:
    await _loaded(scene)
    (copy,) = scene.scratch.glob("*/model")
    copy.rename(copy.with_name("away"))
    for each in scene.server.runners():
        each.kill()
    await asyncio.sleep(1.0)


async def _loading(scene: Scene) -> None:
    """Another model is loaded, by processes that stand still."""
    known = {each.pid for each in scene.server.runners()}
    rollouts.BAD["another model"](scene.model)
    os.kill(scene.server.pid, signal.SIGHUP)
    until_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until_s:
        new = [each for each in scene.server.runners() if each.pid not in known]
        for each in new:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.suspend()
        if new:
            break
        await asyncio.sleep(0.01)
    await asyncio.sleep(1.0)


async def _decoding(scene: Scene) -> None:
    """Files that take as long as they may, whose senders have left; more of them wait."""
    bodies = [
        hostile_media.body_of("image", jpeg_of_scans(1400, 140)),
        hostile_media.body_of("audio", wav_info(_RNG)),
    ]
    target = scene.target(enrolled=True)
    where = Where(target.grpc, target.rest, (), target.key, target.authority)
    async with where.client(target.address) as http:
        sent = [asyncio.create_task(http.post("/v1/infer", json=bodies[n % 2])) for n in range(12)]
        await asyncio.sleep(_STATE_S)
        for each in sent:
            each.cancel()
        await asyncio.gather(*sent, return_exceptions=True)


def _attacked(whose: str, kind: str) -> State:
    async def come(scene: Scene) -> None:
        scene.attack(whose, kind)
        await asyncio.sleep(2 * _STATE_S)

    return come


STATES: Mapping[str, State] = MappingProxyType(
    {
        "idle": _idle,
        "under load": _loaded,
        "a runner stopped": _one_stopped,
        "all runners stopped": _all_stopped,
        "all runners killed": _all_killed,
        "fork server killed": _fork_server_killed,
        "runners unable to start": _unable_to_start,
        "another model loading, stopped": _loading,
        "decoding for who has left": _decoding,
        "strangers: work": _attacked("strangers", "work"),
        "strangers: memory": _attacked("strangers", "memory"),
        "strangers: everything": _attacked("strangers", "everything"),
        "strangers: page": _attacked("strangers", "page"),
        "enrolled: memory": _attacked("enrolled", "memory"),
        "enrolled: everything": _attacked("enrolled", "everything"),
        "enrolled: text": _attacked("enrolled", "text"),
    }
)
"""What is wrong when the signal comes."""
FEW = {"test": ("under load",), "quick": ("a runner stopped", "decoding for who has left", "strangers: page")}


async def run(scale: Scale, folder: Path) -> Row:
    """Each state."""
    states = FEW.get(scale, tuple(STATES))
    pki = make_pki(folder / "certs")
    device, key = pki.device("camera"), keys.add_key(pki.access, "camera", time.time())
    ended_s: dict[str, float] = {}
    left: dict[str, list[str]] = {}
    for number, name in enumerate(states):
        model, scratch = folder / f"model-{number}", folder / f"tmp-{number}"
        shutil.copytree(runners.MODEL, model)
        scratch.mkdir()
        settings = {**pki.settings(), "model": model, "batches": runners.BATCHES, "drain_s": GRACE_S}
        with (
            process_apart() as apart,
            edge_server(settings, environment={"TMPDIR": str(scratch)}) as server,
        ):
            scene = Scene(server, model, scratch, pki, device, key, apart)
            await STATES[name](scene)
            ended_s[name], left[name] = await asyncio.to_thread(server.ended_within_s, _PATIENCE_S)
            _end(apart)
        shutil.rmtree(model, ignore_errors=True)
    slowest = max(ended_s, key=lambda name: ended_s[name])
    behind = {name: each for name, each in left.items() if each}
    checks = [
        at_most("the slowest end [s]", ended_s[slowest], ENDED_WITHIN_S),
        exactly("states that left a process behind", len(behind), 0),
    ]
    return Row(
        "SIGTERM",
        f"in {len(states)} states, with {GRACE_S:g} s of grace: {', '.join(states)}",
        checks,
        {"ended_s": {name: round(each, 2) for name, each in ended_s.items()}, "left_behind": behind},
        [Settled(_PROMISE, f"{ended_s[slowest]:.1f} s ({slowest})", all(check.kept for check in checks))],
    )


def _end(apart: ProcessPoolExecutor) -> None:
    """End the processes of a pool, which need not be waited for."""
    for number in getattr(apart, "_processes", None) or {}:
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(number).kill()
