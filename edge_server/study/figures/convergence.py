"""Figure B: how fast systems learn, in loss and in accuracy between rounds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_server.study.figures.answers import spread
from edge_server.study.study import CONVERGENCE, Study, Task, read_lines
from edge_server.training.loop import EXAMINED, LOG

#: Share of its final accuracy at which a system counts as there.
NEARLY = 0.9


def build(study: Study, records: Path) -> dict[str, Any]:
    """The figure's data: per system, accuracy and loss over rounds, and rounds until nearly there."""
    curves = []
    for system in CONVERGENCE:
        accuracies, losses = [], []
        for seed in study.seeds:
            record = Task(study.name, system, seed).record(records)
            looks, lines = read_lines(record / EXAMINED), read_lines(record / LOG)
            if looks:  # trained by the study, not on its own
                accuracies.append({int(look["steps"]): float(look["accuracy"]) for look in looks})
                losses.append({int(line["step"]): float(line["loss"]) for line in lines})
        if not accuracies:
            continue
        rounds, steps = _shared(accuracies), _shared(losses)
        finals = [found[rounds[-1]] for found in accuracies]
        curves.append(
            {
                "system": system,
                "rounds": rounds,
                "accuracy": [spread([found[r] for found in accuracies]) for r in rounds],
                "loss_rounds": steps,
                "loss": [statistics.fmean(found[s] for found in losses) for s in steps],
                "final": spread(finals),
                "rounds_to_nearly": spread(
                    [
                        rounds_to(found, NEARLY * final)
                        for found, final in zip(accuracies, finals, strict=True)
                    ]
                ),
            }
        )
    return {"nearly": NEARLY, "val_clips": study.val_clips, "curves": curves}


def rounds_to(accuracy: dict[int, float], wanted: float) -> float:
    """The round from which on accuracy stays at or above what is wanted, interpolated between looks.

    Staying counts, not touching: accuracy may fall before it rises. 0 where it was never below.
    """
    rounds = sorted(accuracy)
    below = [i for i, r in enumerate(rounds) if accuracy[r] < wanted]
    if not below:
        return 0.0
    if below[-1] == len(rounds) - 1:
        return float(rounds[-1])
    before, after = rounds[below[-1]], rounds[below[-1] + 1]
    low, high = accuracy[before], accuracy[after]
    return before + (after - before) * (wanted - low) / (high - low)


def _shared(curves: Sequence[dict[int, float]]) -> list[int]:
    return sorted(set(curves[0]).intersection(*curves[1:]))
