"""Learning rates: both stages of every system by the same rule, each trial kept.

Stage 1 by its own loss, over the last quarter of its steps; then stage 2, behind that stage 1, by accuracy on
the validation split. While the best rate is the smallest or the largest that was tried, one more is tried
beyond it, up to a bound. A trial that was made counts, though its number of steps has changed since.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_server.study.alignment.arms import Arm
from edge_server.study.alignment.trial import Asked, Told, Trials
from edge_server.study.json_file import write_json

Row = dict[str, Any]


@dataclass(frozen=True)
class Found:
    """A rate, and whether it lies between others that were tried."""

    rate: float
    interior: bool


@dataclass(frozen=True)
class Tuned:
    """Rates that were chosen; None for the stage 1 of a system that has none."""

    alignment: Found | None
    finetune: Found


def tune(arm: Arm, told: Told, trials: Trials, asked: Asked, kept: Path) -> tuple[Tuned, list[Row]]:
    """Choose a system's rates, or go on choosing them.

    Args:
        arm: the system.
        told: steps and seed of a trial; its rates are not looked at.
        trials: trains.
        asked: asks about the validation split.
        kept: file that holds every trial.

    Returns:
        The rates, and every trial of this system.
    """
    plan = trials.plan
    rows: list[Row] = json.loads(kept.read_text()) if kept.exists() else []

    def keep(row: Row) -> None:
        rows.append(row)
        write_json(kept, rows)

    def accuracy(alignment_rate: float | None, finetune_rate: float) -> float:
        key = {
            "arm": arm.name,
            "alignment_rate": alignment_rate,
            "finetune_rate": finetune_rate,
            "seed": told.seed,
        }
        for row in rows:
            if "val_accuracy" in row and all(row[name] == value for name, value in key.items()):
                return float(row["val_accuracy"])
        trained = trials.train(arm, replace(told, alignment_rate=alignment_rate, finetune_rate=finetune_rate))
        found = asked.validation(trained.link)
        spent_s = round(trained.alignment_cpu_s + trained.finetune_cpu_s, 1)
        steps = {"alignment_steps": told.alignment_steps, "rounds": told.rounds}
        keep(key | steps | {"cpu_s": spent_s, "val_accuracy": found})
        return found

    def gain(alignment_rate: float) -> float:
        key = {"arm": arm.name, "alignment_rate": alignment_rate, "seed": told.seed}
        for row in rows:
            if "stage_1_loss" in row and all(row[name] == value for name, value in key.items()):
                return -float(row["stage_1_loss"])
        loss, spent_s = trials.align(arm, replace(told, alignment_rate=alignment_rate))
        steps = {"alignment_steps": told.alignment_steps}
        keep(key | steps | {"cpu_s": round(spent_s, 1), "stage_1_loss": loss})
        return -loss

    first: Found | None = None
    if arm.alignment is not None:
        first = search(gain, plan.rates, plan.most_further)
    behind = None if first is None else first.rate
    second = search(lambda rate: accuracy(behind, rate), plan.rates, plan.most_further)
    return Tuned(first, second), [row for row in rows if row["arm"] == arm.name]


def search(value: Callable[[float], float], rates: Sequence[float], most_further: int) -> Found:
    """The rate of the largest value; beyond the ends of the grid while the best is one of them.

    Args:
        value: of a rate; asked once for each.
        rates: the grid, ascending, at least two.
        most_further: rates tried beyond it, at most.
    """
    found = {rate: value(rate) for rate in rates}
    for _ in range(most_further):
        tried = sorted(found)
        best = max(tried, key=found.__getitem__)
        if best == tried[0]:
            further = _rounded(tried[0] ** 2 / tried[1])
        elif best == tried[-1]:
            further = _rounded(tried[-1] ** 2 / tried[-2])
        else:
            break
        found[further] = value(further)
    best = max(sorted(found), key=found.__getitem__)
    return Found(best, min(found) < best < max(found))


def _rounded(rate: float) -> float:
    return float(f"{rate:.1g}")
