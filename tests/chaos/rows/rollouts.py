"""Bad rollouts under load: weights of NaN, another model, files missing or cut, a load that takes long.

Each is written into the folder that is served, then SIGHUP. None may be promoted, and nobody may notice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

import httpx
import numpy as np
import psutil
from safetensors.numpy import load_file, save_file

from tests.chaos.bystanders import process_apart
from tests.chaos.known import Asking, Ending, answers_of, ask_known, wrong
from tests.chaos.row import Row, Scale, Settled, exactly
from tests.chaos.rows.runners import MODEL
from tests.chaos.watched import WatchedServer, edge_server

COUNT: Mapping[Scale, int] = MappingProxyType({"test": 2, "quick": 5, "full": 20})
REFERENCE_S: Mapping[Scale, float] = MappingProxyType({"test": 6.0, "quick": 8.0, "full": 45.0})
_PATIENCE_S = 300.0
_SLOW_S = 5.0
_PROMISE = "Bad rollouts (NaN, wrong model, missing file, slow load), 20: promoted; failed questions"
_WEIGHTS = "foundation.safetensors"


def _of_nan(model: Path) -> None:
    _change(model, lambda tensor: np.full_like(tensor, np.nan))


def _of_another(model: Path) -> None:
    _change(model, lambda tensor: -tensor)


def _change(model: Path, how: Callable[[np.ndarray], np.ndarray]) -> None:
    weights = load_file(model / _WEIGHTS)
    save_file({name: how(tensor) for name, tensor in weights.items()}, model / _WEIGHTS)


def _of_another_bundle(model: Path) -> None:
    """Weights that answer for another bundle than lies beside them."""
    manifest = json.loads((model / "bundle/manifest.json").read_text())
    manifest["bundle_hash"] = "ab" * 32
    (model / "bundle/manifest.json").write_text(json.dumps(manifest))


def _missing(model: Path) -> None:
    (model / "link.safetensors").unlink()


def _cut(model: Path) -> None:
    data = (model / _WEIGHTS).read_bytes()
    (model / _WEIGHTS).write_bytes(data[: len(data) // 2])


def _cut_graph(model: Path) -> None:
    graph = model / "bundle/audio.onnx"
    graph.write_bytes(graph.read_bytes()[:-5])


def _garbled(model: Path) -> None:
    (model / "model.json").write_text("{")


def _gone(model: Path) -> None:
    shutil.rmtree(model)


SLOW = "slow load of NaN"
BAD: Mapping[str, Callable[[Path], None]] = MappingProxyType(
    {
        "NaN": _of_nan,
        "another model": _of_another,
        "missing weights": _missing,
        SLOW: _of_nan,
        "another bundle's": _of_another_bundle,
        "weights cut": _cut,
        "graph cut": _cut_graph,
        "description garbled": _garbled,
        "folder gone": _gone,
    }
)
"""What is done to the folder."""


async def run(scale: Scale, folder: Path) -> Row:
    """Rollout after rollout, under load."""
    model = folder / "served"
    shutil.copytree(MODEL, model)
    loop = asyncio.get_running_loop()
    with edge_server({"model": model, "ui": "off", "log_level": "INFO"}) as server, process_apart() as users:
        address = server.doors.grpc
        right = answers_of(
            await loop.run_in_executor(users, ask_known, Asking(address, each_alone=True), REFERENCE_S[scale])
        )
        endings: list[Ending] = []
        done = asyncio.Event()

        async def ask() -> None:
            piece = 0
            while not done.is_set():
                piece += 1
                endings.extend(
                    await loop.run_in_executor(users, ask_known, Asking(address, seed=piece), 15.0)
                )

        asks = asyncio.create_task(ask())
        told: list[tuple[str, str, float]] = []
        for number in range(COUNT[scale]):
            kind = list(BAD)[number % len(BAD)]
            BAD[kind](model)
            began_s = time.monotonic()
            outcome = await _hung_up(server, slow=kind == SLOW)
            told.append((kind, outcome, time.monotonic() - began_s))
            shutil.rmtree(model, ignore_errors=True)
            shutil.copytree(MODEL, model)
        done.set()
        await asks
        async with httpx.AsyncClient(base_url=server.doors.rest, timeout=30) as http:
            ready = (await http.get("/readyz")).json()
        # What is sound still comes in.
        os.kill(server.pid, signal.SIGHUP)
        sound = await _next_outcome(server, _outcomes(server))
    promoted = sum(outcome not in ("refused", "not loaded") for _, outcome, _ in told)
    failed = [each for each in endings if each.answer is None]
    wrongs = wrong(endings, right)
    checks = [
        exactly("bad models promoted", promoted, 0),
        exactly("questions that failed", len(failed), 0),
        exactly("wrong answers", len(wrongs), 0),
        exactly(
            "the bundle that is served is another", int(ready["bundle_hash"] != server.doors.bundle_hash), 0
        ),
        exactly("the same model, sound, told as such", int(sound == "nothing changes"), 1),
    ]
    return Row(
        "Bad rollouts",
        f"{len(told)} beside {len(endings)} questions: "
        + ", ".join(f"{kind} {count}" for kind, count in Counter(kind for kind, _, _ in told).items()),
        checks,
        {
            "rollouts": [{"kind": kind, "outcome": how, "took_s": round(s, 1)} for kind, how, s in told],
            "failed": dict(Counter(each.why for each in failed)),
            "wrong": [asdict(each) for each in wrongs[:10]],
            "answered": sum(each.answer is not None for each in endings),
        },
        [Settled(_PROMISE, f"{promoted}; {len(failed)}", all(check.kept for check in checks))],
    )


_OUTCOMES = MappingProxyType(
    {
        "not reloaded": "not loaded",
        "not promoted": "refused",
        "serving another model": "promoted",
        "nothing changes": "nothing changes",
    }
)


def _outcomes(server: WatchedServer) -> list[str]:
    found = []
    for line in server.log.splitlines():
        found += [outcome for words, outcome in _OUTCOMES.items() if words in line]
    return found


async def _next_outcome(server: WatchedServer, before: list[str]) -> str:
    until_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until_s and server.alive:
        if len(found := _outcomes(server)) > len(before):
            return found[-1]
        await asyncio.sleep(0.1)
    return "no outcome" if server.alive else "the server ended"


async def _hung_up(server: WatchedServer, *, slow: bool) -> str:
    """SIGHUP, and what came of it; where it is to be slow, processes that load are stopped for a while."""
    before, known = _outcomes(server), {each.pid for each in server.runners()}
    os.kill(server.pid, signal.SIGHUP)
    waiting = asyncio.create_task(_next_outcome(server, before))
    stopped: list[psutil.Process] = []
    until_s = time.monotonic() + _SLOW_S
    while slow and time.monotonic() < until_s and not waiting.done():
        for each in server.runners():
            if each.pid not in known:
                known.add(each.pid)
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.suspend()
                    stopped.append(each)
        await asyncio.sleep(0.01)
    for each in stopped:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.resume()
    return await waiting
