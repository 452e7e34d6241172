"""The rows of the co-training study, one after the other; each is written as soon as it is there.

equality    over gRPC beside the same recipe in one process
shift       six worlds: both halves learn, heads alone, the edge alone, heads averaged
bytes       float32, float16, int8, and float32 with as many bytes as int8
faults      devices killed and back, gradients lost, one straggler
poisoner    one device of six with wrong answers
step        what a step costs a device, beside torch
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from device_agent.bundle.bundle import Bundle, load_bundle
from device_agent.channel import ChannelConfig
from edge_server.cotrain.model_half import ModelHalf
from edge_server.cotrain.plan import Plan
from edge_server.model.link import Link
from edge_server.study.cotrain.arms import Faults, Outcome, accuracies, examine, in_one_process, over_network
from edge_server.study.cotrain.shifts import SHIFTS
from edge_server.study.cotrain.step_cost import measure_step
from edge_server.study.cotrain.world import UNSHIFTED, Worlds, load_worlds

ROWS = ("equality", "shift", "bytes", "faults", "poisoner", "step")
POLICIES: Mapping[str, dict[str, Any]] = {
    "personal heads": {},
    "shared heads": {"heads": "shared"},
    "edge only": {"heads": "frozen"},
    "heads only": {"edge_learns": False},
}
"""What of a plan makes each policy."""
CHANNEL = ChannelConfig(model="awgn", snr_db=10.0)
TOKEN_LENGTH = 16


@dataclass(frozen=True)
class Scale:
    """How large a study is."""

    rounds: int = 300
    clips: int = 100
    test_clips: int = 120
    seeds: tuple[int, ...] = (1, 2, 3)
    clips_a_step: int = 6
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
            learning_rate=3e-4,
            payload="float32",
            gradient="float32",
            deadline_s=60.0,
            seed=seed,
        )


QUICK = Scale(rounds=4, clips=12, test_clips=8, seeds=(1,), clips_a_step=2, step_repeats=2)


class Comparison:
    """Runs rows, and keeps what they share.

    Args:
        model: folder of the shipped model.
        data: Soundstage data set.
        scratch: folder for features and runs.
        scale: how large.
        told: called with a line of progress.
    """

    def __init__(
        self, model: Path, data: Path, scratch: Path, scale: Scale, told: Callable[[str], None]
    ) -> None:
        self._model, self._scratch, self._scale, self._told = model, scratch, scale, told
        self._bundle: Bundle = load_bundle(model / "bundle")
        torch.set_num_threads(1)
        link = Link.load(model)
        self._worlds: Worlds = load_worlds(link, data, scratch / "features", scale.clips, scale.test_clips)
        self._half = ModelHalf(link, scale.plan(1))
        self._kept: dict[str, Outcome] = {}

    def row(self, name: str) -> dict[str, Any]:
        """One row, as JSON."""
        return {
            "equality": self._equality,
            "shift": self._shift,
            "bytes": self._bytes,
            "faults": self._faults,
            "poisoner": self._poisoner,
            "step": self._step,
        }[name]()

    def _run(self, plan: Plan, faults: Faults | None = None) -> Outcome:
        key = plan.text() + str(faults)
        if key not in self._kept:
            self._told(f"rounds {plan.rounds}, heads {plan.heads}, edge {plan.edge_learns}, {plan.gradient}")
            self._kept[key] = over_network(
                self._model, self._bundle, self._worlds, plan, CHANNEL, self._scratch / "round", faults
            )
        return self._kept[key]

    def _accuracies(self, outcome: Outcome, only: Sequence[str] | None = None) -> dict[str, Any]:
        found = accuracies(outcome, self._worlds.test, CHANNEL, TOKEN_LENGTH)
        found = {name: each for name, each in found.items() if only is None or name in only}
        return {
            "shifted": float(np.mean([each["shifted"] for each in found.values()])),
            "unshifted": float(np.mean([each["unshifted"] for each in found.values()])),
            "devices": found,
            "elapsed_s": outcome.elapsed_s,
        }

    def _before(self) -> dict[str, Any]:
        test = self._worlds.test
        found = {
            name: examine(self._half, {}, test, name, CHANNEL, TOKEN_LENGTH, before=True)
            for name in test.features
        }
        shifted = [each for name, each in found.items() if name != UNSHIFTED]
        return {
            "shifted": float(np.mean(shifted)),
            "unshifted": found[UNSHIFTED],
            "worlds": found,
            "questions": sum(len(each) for each in test.asked),
        }

    def _equality(self) -> dict[str, Any]:
        plan = self._scale.plan(1)
        network = self._run(plan)
        self._told("the same in one process")
        process = in_one_process(
            self._model, self._bundle, self._worlds, plan, CHANNEL, self._scratch / "one"
        )
        pairs = [(network.curves[name], process.curves[name]) for name in process.curves]
        apart = [np.abs(np.array(a[: len(b)]) - np.array(b[: len(a)])) for a, b in pairs]
        return {
            "over_grpc": self._accuracies(network),
            "in_one_process": self._accuracies(process),
            "largest_loss_difference": float(max(each.max() for each in apart)),
            "mean_loss_difference": float(np.mean([each.mean() for each in apart])),
            "mean_loss": {
                "over_grpc": _mean_curve(network.curves),
                "in_one_process": _mean_curve(process.curves),
            },
        }

    def _shift(self) -> dict[str, Any]:
        policies: dict[str, list[dict[str, Any]]] = {name: [] for name in POLICIES}
        for seed in self._scale.seeds:
            for name, told in POLICIES.items():
                outcome = self._run(replace(self._scale.plan(seed), **told))
                others = examine(outcome.half, {}, self._worlds.test, UNSHIFTED, CHANNEL, TOKEN_LENGTH)
                found = self._accuracies(outcome)
                found |= {"seed": seed, "unshifted_with_first_head": others}
                found["mean_loss"] = _mean_curve(outcome.curves)
                policies[name].append(found)
                if seed != self._scale.seeds[0]:
                    self._kept.clear()
        return {"before": self._before(), "policies": policies}

    def _bytes(self) -> dict[str, Any]:
        rows = {}
        base = self._scale.plan(1)
        for dtype in ("float32", "float16", "int8"):
            rows[dtype] = self._bytes_row(replace(base, payload=dtype, gradient=dtype))
        quarter = max(1, base.rounds // 4)
        rows[f"float32, {quarter} steps"] = self._bytes_row(replace(base, rounds=quarter))
        return {"rows": rows}

    def _bytes_row(self, plan: Plan) -> dict[str, Any]:
        outcome = self._run(plan)
        steps = sum(row["steps"] for row in outcome.counters.values())
        up, down = (
            sum(row[each] for row in outcome.counters.values()) for each in ("up_bytes", "down_bytes")
        )
        return {
            "up_bytes_per_step": up / max(1, steps),
            "down_bytes_per_step": down / max(1, steps),
            "bytes": up + down,
            "steps": steps,
            **self._accuracies(outcome),
        }

    def _faults(self) -> dict[str, Any]:
        plan = self._scale.plan(1)
        usual = self._run(plan)
        step_s = usual.elapsed_s / plan.rounds
        faults = Faults(killed=0.3, lost=0.2, straggler_s=10.0 * step_s)
        # Whoever is three times as late as a step takes is not waited for.
        outcome = self._run(replace(plan, min_devices=2, deadline_s=max(0.2, 3.0 * step_s)), faults)
        twice = [
            name for name, row in outcome.learned.items() if row["applied"] > outcome.counters[name]["steps"]
        ]
        return {
            "faults": asdict(faults),
            "without": self._accuracies(usual),
            "with": self._accuracies(outcome),
            "counters": outcome.counters,
            "learned": outcome.learned,
            "devices_with_a_step_applied_twice": twice,
            "steps": outcome.half.step,
        }

    def _poisoner(self) -> dict[str, Any]:
        plan = self._scale.plan(1)
        clean, outcome = self._run(plan), self._run(replace(plan, min_devices=2), Faults(flipped=1))
        poisoner, *others = (world.name for world in self._worlds.devices)
        return {
            "poisoner": poisoner,
            "named": outcome.named,
            "others_clean": self._accuracies(clean, others),
            "others_poisoned": self._accuracies(outcome, others),
            "cosines": {name: row["cosine"] for name, row in outcome.counters.items()},
            "cosines_clean": {name: row["cosine"] for name, row in clean.counters.items()},
        }

    def _step(self) -> dict[str, Any]:
        return {
            kind: measure_step(kind, self._model, self._scale.step_repeats, self._scale.clips_a_step)
            for kind in ("onnx", "torch")
        }


def _mean_curve(curves: Mapping[str, Sequence[float]]) -> list[float]:
    """Mean over devices, as far as all have gone."""
    steps = min((len(curve) for curve in curves.values()), default=0)
    if not steps:
        return []
    stacked = np.mean([curve[:steps] for curve in curves.values()], axis=0)
    return [round(float(each), 5) for each in stacked]
