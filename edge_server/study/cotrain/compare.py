"""The rows of the co-training study, from records of single co-trainings; each is a list over seeds.

tuning      settings beside one another, on validation clips: what all other rows are made with
equality    over gRPC beside the same recipe in one process
shift       six worlds: both halves learn, heads averaged, the edge alone, heads alone
unrehearsed the same, where nothing keeps what was known before
bytes       float32, float16, int8, and float32 with as many bytes as int8
faults      devices killed and back, gradients lost, one straggler
poisoner    one device of six with wrong answers
average     whole heads averaged, the edge frozen: FedAvg, with no learning at the edge
step        what a step costs a device, beside torch
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from device_agent.bundle.bundle import load_bundle
from device_agent.channel import ChannelConfig
from edge_server.cotrain.model_half import ModelHalf
from edge_server.cotrain.plan import REHEARSE_SHARE, Plan
from edge_server.data.soundstage.dataset import SplitName
from edge_server.model.link import Link
from edge_server.study.cotrain.faults import Faults
from edge_server.study.cotrain.records import Arm, Record, Records, mean_curve, means
from edge_server.study.cotrain.shifts import SHIFTS
from edge_server.study.cotrain.step_cost import measure_step
from edge_server.study.cotrain.tuning import CANDIDATES, RULE, SEED, chosen
from edge_server.study.cotrain.world import load_worlds

ROWS = ("tuning", "equality", "shift", "unrehearsed", "bytes", "faults", "poisoner", "average", "step")
POLICIES: Mapping[str, dict[str, Any]] = {
    "personal heads": {},
    "heads only": {"edge_learns": False},
    "edge only": {"heads": "frozen"},
    "shared heads": {"heads": "shared"},
}
"""What of a plan makes each policy."""
UNREHEARSED: Mapping[str, Any] = {
    "rehearse_share": 0.0,
    "align": 0.0,
    "keep_edge": 0.0,
    "keep_heads": 0.0,
}
FEDAVG: Mapping[str, Any] = {"heads": "shared", "edge_learns": False}
CHANNEL = ChannelConfig(model="awgn", snr_db=10.0)
TOKEN_LENGTH = 16
STRAGGLER_TIMES = 10.0
_CLOSED_AFTER = 3.0
"""Whoever is so many times as late as a step takes is not waited for."""


@dataclass(frozen=True)
class Scale:
    """How large a study is."""

    rounds: int = 300
    clips: int = 100
    test_clips: int = 120
    seeds: tuple[int, ...] = (1, 2, 3)
    clips_a_step: int = 4
    learning_rate: float = 1e-3
    head_rate: float = 0.2
    keep_edge: float = 0.15
    keep_heads: float = 0.15
    align: float = 0.0
    rehearse_share: float = REHEARSE_SHARE
    rehearse_clips: int = 8
    rehearsed_clips: int = 400
    tuning_clips: int = 60
    step_repeats: int = 40

    def plan(self, seed: int) -> Plan:
        """What every arm is told unless it is about something else."""
        return Plan(
            rounds=self.rounds,
            # All of them from the first step on: what is compared is learned from the same batches.
            min_devices=len(SHIFTS),
            clips=self.clips_a_step,
            questions=1,
            token_lengths=(TOKEN_LENGTH,),
            learning_rate=self.learning_rate,
            head_rate=self.head_rate,
            keep_edge=self.keep_edge,
            keep_heads=self.keep_heads,
            align=self.align,
            rehearse_share=self.rehearse_share,
            rehearse_clips=self.rehearse_clips,
            payload="float32",
            gradient="float32",
            deadline_s=60.0,
            seed=seed,
        )


QUICK = Scale(
    rounds=4, clips=12, test_clips=8, seeds=(1,), rehearsed_clips=16, tuning_clips=8, step_repeats=2
)


class Comparison:
    """Makes rows of records.

    Args:
        model: folder of the shipped model.
        data: Soundstage data set.
        scratch: folder for features and records.
        scale: how large.
        told: called with a line of progress.
        only_kept: train nothing: rows of what is on disk, policies and types that are not left out.
    """

    def __init__(
        self,
        model: Path,
        data: Path,
        scratch: Path,
        scale: Scale,
        told: Callable[[str], None],
        *,
        only_kept: bool = False,
    ) -> None:
        self._model, self._data, self._scratch, self._scale = model, data, scratch, scale
        self._told, self._only_kept = told, only_kept
        self._before: dict[str, Any] = {}
        self._cost: dict[str, Any] = {}
        self._tuned: dict[str, Any] = {}
        torch.set_num_threads(1)
        link = Link.load(model)
        self._half = ModelHalf(link, scale.plan(1))
        self._records = self._asked_of("test", scale.test_clips, scratch)

    def _asked_of(self, split: SplitName, clips: int, records: Path) -> Records:
        """Co-trainings that are asked clips of a split."""
        scale, cache = self._scale, self._scratch / "features"
        worlds = load_worlds(
            self._half.link, self._data, cache, scale.clips, clips, scale.rehearsed_clips, split
        )
        bundle = load_bundle(self._model / "bundle")
        return Records(
            self._model, bundle, worlds, CHANNEL, TOKEN_LENGTH, records, self._told, only_kept=self._only_kept
        )

    def row(self, name: str, seeds: Sequence[int]) -> dict[str, Any]:
        """One row, as JSON: what each seed came to."""
        if name == "step":
            self._cost = self._cost or self._step()
            return self._cost
        if name == "tuning":
            self._tuned = self._tuned or self._tuning()
            return self._tuned
        plans = [self._scale.plan(seed) for seed in seeds]
        if name == "shift":
            return {"before": self._as_shipped(), "seeds": self._shift(plans)}
        if name == "unrehearsed":
            bare = [replace(plan, **UNREHEARSED) for plan in plans]
            scale = {**asdict(self._scale), **UNREHEARSED, "seeds": list(seeds)}
            return {"before": self._as_shipped(), "seeds": self._shift(bare), "scale": scale}
        make = {
            "equality": self._equality,
            "bytes": self._bytes,
            "faults": self._faults,
            "poisoner": self._poisoner,
            "average": self._average,
        }[name]
        found = {"seeds": [make(plan) for plan in plans]}
        return {"before": self._as_shipped(), **found} if name == "average" else found

    def _as_shipped(self) -> dict[str, Any]:
        self._before = self._before or self._records.before(self._half)
        return self._before

    def _of(self, plan: Plan, faults: Faults | None = None) -> Record:
        return self._records.of(Arm(plan, faults or Faults()))

    def _equality(self, plan: Plan) -> dict[str, Any]:
        network, process = self._of(plan), self._records.of(Arm(plan, way="process"))
        pairs = [(network["curves"][name], process["curves"][name]) for name in process["curves"]]
        apart = [np.abs(np.array(a[: len(b)]) - np.array(b[: len(a)])) for a, b in pairs]
        return {
            "seed": plan.seed,
            "over_grpc": _said(network),
            "in_one_process": _said(process),
            "largest_loss_difference": float(max(each.max() for each in apart)),
            "mean_loss_difference": float(np.mean([each.mean() for each in apart])),
            "mean_loss": {
                "over_grpc": mean_curve(network["curves"]),
                "in_one_process": mean_curve(process["curves"]),
            },
        }

    def _shift(self, plans: Sequence[Plan]) -> list[dict[str, Any]]:
        """A policy with all seeds, then the next: one that is cut has the first ones whole."""
        found: dict[int, dict[str, Any]] = {plan.seed: {"seed": plan.seed} for plan in plans}
        for name, told in POLICIES.items():
            for plan in plans:
                try:
                    record = self._of(replace(plan, **told))
                except LookupError:
                    continue
                found[plan.seed][name] = {**_said(record), "mean_loss": mean_curve(record["curves"])}
        made = [each for each in found.values() if len(each) > 1]
        if not made:
            raise LookupError("of any policy")
        return made

    def _bytes(self, plan: Plan) -> dict[str, Any]:
        found: dict[str, Any] = {"seed": plan.seed}
        for dtype in ("float32", "float16", "int8"):
            found[dtype] = _bytes_of(self._of(replace(plan, payload=dtype, gradient=dtype)))
        if self._records.only_kept:
            return found
        quarter = max(1, round(plan.rounds * found["int8"]["bytes"] / found["float32"]["bytes"]))
        found["float32, as many bytes as int8"] = _bytes_of(self._of(replace(plan, rounds=quarter)))
        return found

    def _faults(self, plan: Plan) -> dict[str, Any]:
        usual = self._of(plan)
        step_s = usual["elapsed_s"] / plan.rounds
        faults = Faults(killed=0.3, lost=0.2, straggler_s=STRAGGLER_TIMES * step_s)
        record = self._of(replace(plan, min_devices=2, deadline_s=max(0.2, _CLOSED_AFTER * step_s)), faults)
        return {
            "seed": plan.seed,
            "faults": asdict(faults),
            "without": _said(usual),
            "with": _said(record),
            **{name: record[name] for name in ("counters", "learned", "applied_twice", "named", "steps")},
        }

    def _poisoner(self, plan: Plan) -> dict[str, Any]:
        clean, record = self._of(plan), self._of(replace(plan, min_devices=2), Faults(flipped=1))
        poisoner, *others = (world.name for world in self._records.worlds.devices)
        return {
            "seed": plan.seed,
            "commit": record["commit"],
            "poisoner": poisoner,
            "named": record["named"],
            "named_without_one": clean["named"],
            "steps_with_it": record["counters"][poisoner]["steps"],
            "others_clean": means(clean["devices"], others),
            "others_poisoned": means(record["devices"], others),
            "cosines": {name: row["cosine"] for name, row in record["counters"].items()},
            "cosines_clean": {name: row["cosine"] for name, row in clean["counters"].items()},
        }

    def _average(self, plan: Plan) -> dict[str, Any]:
        return {"seed": plan.seed, **_said(self._of(replace(plan, **FEDAVG)))}

    def _tuning(self) -> dict[str, Any]:
        records = self._asked_of("val", self._scale.tuning_clips, self._scratch / "tuning")
        before = records.before(self._half)
        found = []
        for told in CANDIDATES:
            record = records.of(Arm(replace(self._scale.plan(SEED), **told), way="process"))
            names = ("commit", "shifted", "unshifted", "unshifted_with_first_head", "elapsed_s")
            found.append({"settings": dict(told), **{name: record[name] for name in names}})
        return {
            "seed": SEED,
            "before": before,
            "rule": RULE,
            "candidates": found,
            "chosen": chosen(before, found),
        }

    def _step(self) -> dict[str, Any]:
        return {
            kind: measure_step(kind, self._model, self._scale.step_repeats, self._scale.clips_a_step)
            for kind in ("onnx", "torch")
        }


def _said(record: Record) -> dict[str, Any]:
    """What rows say of an arm."""
    names = ("commit", "shifted", "unshifted", "unshifted_with_first_head", "devices", "named", "elapsed_s")
    return {name: record[name] for name in names}


def _bytes_of(record: Record) -> dict[str, Any]:
    counters: Sequence[Mapping[str, int]] = list(record["counters"].values())
    steps, up, down = (sum(row[each] for row in counters) for each in ("steps", "up_bytes", "down_bytes"))
    return {
        "up_bytes_per_step": up / max(1, steps),
        "down_bytes_per_step": down / max(1, steps),
        "bytes": up + down,
        "rounds": record["rounds"],
        **_said(record),
    }
