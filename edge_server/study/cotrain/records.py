"""What each co-training of the study came to, kept on disk: a study that is cut goes on where it was.

Arm ─▶ RECORDS/HASH.json there? ─ no ─▶ co-train ─▶ test questions ─▶ RECORDS/HASH.json
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from device_agent.bundle.bundle import Bundle
from device_agent.channel import ChannelConfig
from edge_server.cotrain.model_half import ModelHalf
from edge_server.cotrain.plan import Plan
from edge_server.model.provenance import current_commit
from edge_server.study.cotrain.arms import Outcome, Trained, in_one_process, over_network
from edge_server.study.cotrain.faults import Faults
from edge_server.study.cotrain.scoring import accuracies, examine
from edge_server.study.cotrain.world import UNSHIFTED, Worlds

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Arm:
    """A co-training of the study.

    Attributes:
        plan: of the round.
        faults: what goes wrong in it.
        way: over gRPC, or with torch alone in one process.
    """

    plan: Plan
    faults: Faults = field(default_factory=Faults)
    way: Literal["network", "process"] = "network"

    def named(self, *more: Any) -> str:
        """A name that everything in it, and more, decides."""
        told = [self.plan.to_json(), asdict(self.faults), self.way, *more]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


class Records:
    """Makes records, or reads those that an earlier call left.

    Args:
        model: folder of the shipped model.
        bundle: of its devices.
        worlds: what is taught and asked.
        channel: what lies between.
        token_length: of test questions.
        scratch: folder of records and rounds.
        told: called with a line of progress.
        only_kept: make no record that is not there; an arm of which there is none is a LookupError.
    """

    def __init__(
        self,
        model: Path,
        bundle: Bundle,
        worlds: Worlds,
        channel: ChannelConfig,
        token_length: int,
        scratch: Path,
        told: Callable[[str], None],
        *,
        only_kept: bool = False,
    ) -> None:
        self.only_kept = only_kept
        self._model, self._bundle, self.worlds = model, bundle, worlds
        self._channel, self._token_length = channel, token_length
        self._scratch, self._told = scratch, told
        self._trained: tuple[Plan, Trained] | None = None
        (scratch / "records").mkdir(parents=True, exist_ok=True)

    def of(self, arm: Arm) -> Record:
        """What an arm came to, as JSON."""
        worlds = self.worlds
        rehearsed = 0 if worlds.rehearsed is None else len(worlds.rehearsed)
        sizes = (len(worlds.devices[0].examples.train), len(worlds.test.asked), rehearsed)
        path = (
            self._scratch / "records" / f"{arm.named(asdict(self._channel), sizes, self._bundle.hash)}.json"
        )
        if path.exists():
            found: Record = json.loads(path.read_text())
            return found
        if self.only_kept:
            raise LookupError(_said(arm))
        self._told(_said(arm))
        record = self._record(arm, self._run(arm))
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(record))
        draft.replace(path)
        return record

    def before(self, half: ModelHalf) -> dict[str, Any]:
        """The shipped model in each world."""
        test = self.worlds.test
        found = {
            name: examine(half, {}, test, name, self._channel, self._token_length, before=True)
            for name in test.features
        }
        shifted = [each for name, each in found.items() if name != UNSHIFTED]
        return {
            "shifted": float(np.mean(shifted)),
            "unshifted": found[UNSHIFTED],
            "worlds": found,
            "questions": sum(len(each) for each in test.asked),
        }

    def _run(self, arm: Arm) -> Outcome:
        scratch = self._scratch / f"round-{os.getpid()}"
        if arm.way == "process":
            bare = replace(arm.plan, keep_edge=0.0, keep_heads=0.0)
            if self._trained is None or self._trained[0] != bare:
                made = in_one_process(self._model, self._bundle, self.worlds, bare, self._channel, scratch)
                self._trained = (bare, Trained(made, self._bundle))
            return self._trained[1].pulled_back(arm.plan)
        return over_network(
            self._model, self._bundle, self.worlds, arm.plan, self._channel, scratch, arm.faults
        )

    def _record(self, arm: Arm, outcome: Outcome) -> dict[str, Any]:
        test, half = self.worlds.test, outcome.half
        devices = accuracies(half, outcome.heads, test, self._channel, self._token_length)
        return {
            "commit": current_commit(),
            "seed": arm.plan.seed,
            "rounds": arm.plan.rounds,
            "steps": half.step,
            **means(devices, devices),
            "unshifted_with_first_head": examine(
                half, {}, test, UNSHIFTED, self._channel, self._token_length
            ),
            "devices": devices,
            "curves": {name: [round(each, 5) for each in curve] for name, curve in outcome.curves.items()},
            "counters": outcome.counters,
            "learned": outcome.learned,
            "applied_twice": outcome.applied_twice,
            "named": outcome.named,
            "elapsed_s": outcome.elapsed_s,
        }


def means(
    devices: Mapping[str, Mapping[str, float]], only: Sequence[str] | Mapping[str, Any]
) -> dict[str, float]:
    """Mean accuracies of some devices."""
    return {
        kind: float(np.mean([each[kind] for name, each in devices.items() if name in only]))
        for kind in ("shifted", "unshifted")
    }


def mean_curve(curves: Mapping[str, Sequence[float]]) -> list[float]:
    """Mean loss over devices, as far as all have gone."""
    steps = min((len(curve) for curve in curves.values()), default=0)
    if not steps:
        return []
    stacked = np.mean([curve[:steps] for curve in curves.values()], axis=0)
    return [round(float(each), 5) for each in stacked]


def _said(arm: Arm) -> str:
    plan = arm.plan
    edge = "edge learns" if plan.edge_learns else "edge frozen"
    wrong = "" if arm.faults == Faults() else f", {arm.faults}"
    how = f"{arm.way}, heads {plan.heads}, {edge}, {plan.gradient}{wrong}"
    return f"seed {plan.seed}, {plan.rounds} steps, {how}"
