"""The comparison: everybody serves the same model to the same users, one after the other, round after round.

    trial     each peer's choices ─▶ the fastest is kept
    closed    64 users, everybody in turn, in rounds ─▶ throughput, CPU seconds per question
    library   in the same rounds the peers again, computing with Hugging Face's class
    open      half of the best peer's throughput, in rounds ─▶ median and 99th percentile of latency

Only one server runs at a time. Interleaving spreads what disturbs the machine over all of them.
"""

from __future__ import annotations

import asyncio
import functools
import statistics
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from deploy.loadtest.target import Failed, Refused
from device_agent.bundle.bundle import read_manifest
from tests.benchmarks.device_report import machine
from tests.benchmarks.peer_servers.settings import Forward
from tests.benchmarks.peers.contestants import CORES, PEERS, Choice, Peer
from tests.benchmarks.peers.effort import Effort
from tests.benchmarks.peers.environments import MissingEnvironmentError
from tests.benchmarks.peers.processes import ServerDiedError
from tests.benchmarks.peers.progress import outcome, setup, speed
from tests.benchmarks.peers.questions import WORKLOADS, Group, make_questions
from tests.benchmarks.peers.record import Record
from tests.benchmarks.peers.serving import Served, our_server, peer_server
from tests.benchmarks.peers.summary import LIMIT, OURS, summarise
from tests.benchmarks.peers.turns import LimitError, Load, answers, closed_turn, limit_turn, open_turn

SHARE_OF_BEST_PEER = 0.5
_FAULTS = (MissingEnvironmentError, ServerDiedError, LimitError, Refused, Failed, OSError, ExceptionGroup)


def measure(
    model: Path,
    effort: Effort,
    peers: Sequence[Peer] = PEERS,
    *,
    record: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Run the comparison; a peer that cannot run is reported, the others are measured.

    Args:
        model: folder of the model that everybody serves.
        effort: how closely to look.
        peers: who is compared; our server and the limit always are.
        record: file of what was measured so far, from which a run that was cut goes on.
        say: is told what happens, a line at a time.

    Returns:
        What :mod:`tests.benchmarks.peers.summary` makes of it, with every turn.

    Raises:
        ServerDiedError, Failed, Refused: our own server cannot run.
        DeviceAgentError: the model has no sound bundle.
    """
    model = model.resolve()
    about = {
        "effort": asdict(effort),
        "bundle": read_manifest(model / "bundle").bundle_hash,
        "peers": {peer.name: peer.version() for peer in peers},
    }
    kept = Record(record, about)
    # A short name: sockets lie in it, whose paths have to be short.
    with tempfile.TemporaryDirectory(prefix="peers-", ignore_cleanup_errors=True) as scratch:
        found = asyncio.run(_Comparison(model, effort, peers, kept, Path(scratch), say).run())
    kept.close()
    return summarise({"model": model.name, "machine": machine() | {"cores": CORES}, **about, **found})


class _Comparison:
    def __init__(
        self,
        model: Path,
        effort: Effort,
        peers: Sequence[Peer],
        record: Record,
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        self._model = model
        self._effort = effort
        self._peers = {peer.name: peer for peer in peers}
        self._record = record
        self._folder = folder
        self._say = say
        self._groups: Mapping[str, list[Group]] = {
            workload: groups[: effort.groups] for workload, groups in make_questions(model).items()
        }
        self._first = self._groups["words"][0][0]
        self._expected: Mapping[bytes, str] = {}
        self._chosen: dict[str, Choice] = {}
        self._limit_batch = effort.limit_batches[0]

    async def run(self) -> dict[str, Any]:
        """Everything, in order."""
        async with self._ours() as served:
            self._expected = await answers(served, self._groups["captions"], self._effort.users)
        trials = {name: await self._try(peer) for name, peer in self._peers.items()}
        limit_trial = await self._try_limit()
        in_turn: list[tuple[str, Forward]] = [(name, "lent") for name in (OURS, LIMIT, *_able(trials))]
        in_turn += [(name, "library") for name in _able(trials)]
        loops = [
            await self._closed(number, name, forward)
            for number in range(self._effort.rounds)
            for name, forward in in_turn
        ]
        closed = [turn for turn in loops if turn["phase"] == "closed"]
        for name in _able(trials):
            faults = [turn["fault"] for turn in closed if turn["name"] == name and "fault" in turn]
            if len(faults) == self._effort.rounds:
                trials[name]["could_not_run"] = faults[0]
        rates_hz = self._rates(closed)
        opened = [
            await self._open(number, name, rates_hz)
            for number in range(self._effort.rounds if rates_hz else 0)
            for name in (OURS, *_able(trials))
        ]
        return {
            "workloads": dict(WORKLOADS),
            "questions": {name: sum(map(len, groups)) for name, groups in self._groups.items()},
            "contestants": self._contestants(trials, limit_trial),
            "open_rates_hz": rates_hz,
            "turns": [*loops, *opened],
        }

    def _contestants(self, trials: Mapping[str, Any], limit: Mapping[str, Any]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = [
            {"name": OURS, "label": "TokenLink, gRPC", "version": "", "could_not_run": None},
            {"name": LIMIT, "label": "limit: offline torch", "version": "", "could_not_run": None, **limit},
        ]
        for name, peer in self._peers.items():
            rows.append({"name": name, "label": peer.label, "version": peer.version(), **trials[name]})
        return rows

    async def _try(self, peer: Peer) -> dict[str, Any]:
        """Measure a peer's choices and keep the fastest."""
        try:
            peer.command(port=0)
        except MissingEnvironmentError as fault:
            return {"choices": [], "could_not_run": str(fault)}
        if not self._effort.trial_s:
            chosen = replace(peer.choices[0], workers=1, threads=self._effort.threads)
            self._chosen[peer.name] = chosen
            return {"choices": [], "kept": chosen.to_json(), "could_not_run": None}
        load = Load(self._effort.users, self._effort.trial_s, self._effort.warm_s)

        async def run(choice: Choice) -> dict[str, Any]:
            return await self._with(
                peer.name, choice, lambda served: self._closed_loops(served, load, seed=0)
            )

        tried = []
        for place, choice in enumerate(peer.choices):
            found = await self._record.turn(f"trial {peer.name} {place}", functools.partial(run, choice))
            self._say(f"trial  {peer.label}, {setup(choice)}: {outcome(found)}")
            tried.append((choice, found))
        choices = [choice.to_json() | {"found": found} for choice, found in tried]
        fastest, found = max(tried, key=lambda each: speed(each[1]))
        if "fault" in found:
            return {"choices": choices, "could_not_run": found["fault"]}
        self._chosen[peer.name] = fastest
        return {"choices": choices, "kept": fastest.to_json(), "could_not_run": None}

    async def _try_limit(self) -> dict[str, Any]:
        if self._effort.trial_s:
            found = {
                batch: await self._limit(f"trial limit {batch}", batch)
                for batch in self._effort.limit_batches
            }
            self._limit_batch = max(found, key=lambda batch: speed(found[batch]))
        return {"kept": Choice(1, self._effort.threads, self._limit_batch, 0.0).to_json()}

    async def _closed(self, number: int, name: str, forward: Forward = "lent") -> dict[str, Any]:
        phase = "closed" if forward == "lent" else forward
        if name == LIMIT:
            found = await self._limit(f"closed {number} {name}", self._limit_batch)
        else:
            load = Load(self._effort.users, self._effort.closed_s, self._effort.warm_s)
            chosen = self._chosen.get(name)

            async def run() -> dict[str, Any]:
                return await self._with(
                    name,
                    chosen and replace(chosen, forward=forward),
                    lambda served: self._closed_loops(served, load, seed=number),
                )

            found = await self._record.turn(f"{phase} {number} {name}", run)
        self._say(f"{phase} {number + 1}/{self._effort.rounds}  {name}: {outcome(found)}")
        return {"phase": phase, "round": number, "name": name, **found}

    async def _open(self, number: int, name: str, rates_hz: Mapping[str, float]) -> dict[str, Any]:
        load = Load(self._effort.users, self._effort.open_s, self._effort.warm_s)

        async def all_workloads(served: Served) -> dict[str, Any]:
            return {
                workload: await open_turn(
                    served, self._groups[workload], self._expected, load, rate_hz, seed=number
                )
                for workload, rate_hz in rates_hz.items()
            }

        async def run() -> dict[str, Any]:
            return await self._with(name, self._chosen.get(name), all_workloads)

        found = await self._record.turn(f"open {number} {name}", run)
        self._say(f"open   {number + 1}/{self._effort.rounds}  {name}: {outcome(found)}")
        return {"phase": "open", "round": number, "name": name, **found}

    async def _closed_loops(self, served: Served, load: Load, seed: int) -> dict[str, Any]:
        return {
            workload: await closed_turn(served, groups, self._expected, load, seed)
            for workload, groups in self._groups.items()
        }

    async def _limit(self, turn: str, batch: int) -> dict[str, Any]:
        async def run() -> dict[str, Any]:
            try:
                return await asyncio.to_thread(
                    limit_turn,
                    self._model,
                    self._groups,
                    self._expected,
                    threads=self._effort.threads,
                    batch=batch,
                    seconds=self._effort.closed_s,
                    folder=self._folder,
                )
            except _FAULTS as fault:
                return {"fault": str(fault)}

        return await self._record.turn(turn, run)

    def _ours(self) -> AbstractAsyncContextManager[Served]:
        return our_server(self._model, self._folder, self._first.ask())

    async def _with(
        self, name: str, choice: Choice | None, use: Callable[[Served], Awaitable[dict[str, Any]]]
    ) -> dict[str, Any]:
        """Start a contestant, use it, end it; a peer's fault is a finding, our own ends the run."""
        if choice is None:
            async with self._ours() as ours:
                return await use(ours)
        peer, first = self._peers[name], self._first.ask()
        try:
            async with peer_server(peer, choice, self._model, self._folder, first) as served:
                return await use(served)
        except _FAULTS as fault:
            return {"fault": str(fault)}

    def _rates(self, closed: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """What the open loops offer, by workload; nothing where no peer has answered [Hz]."""
        rates_hz = {}
        for workload in self._groups:
            speeds = [
                statistics.median(values)
                for name in self._peers
                if (
                    values := [
                        turn[workload]["answered_hz"]
                        for turn in closed
                        if turn["name"] == name and workload in turn
                    ]
                )
            ]
            if speeds and max(speeds) > 0.0:
                rates_hz[workload] = SHARE_OF_BEST_PEER * max(speeds)
        return rates_hz


def _able(trials: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of the peers that run here."""
    return [name for name, trial in trials.items() if not trial["could_not_run"]]
