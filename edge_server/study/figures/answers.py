"""Reading what a study's systems answered: by setting, over training seeds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean and standard deviation over training seeds (n - 1), beside the values themselves.

    Raises:
        ValueError: there is none.
    """
    if not values:
        raise ValueError("values: none; at least one is needed")
    return {
        "mean": statistics.fmean(values),
        "std": statistics.stdev(values) if len(values) > 1 else 0.0,
        "values": list(values),
    }


class Answers:
    """Scores of a study.

    Args:
        lines: as :func:`edge_server.study.study.results` gives them.
    """

    def __init__(self, lines: Iterable[dict[str, Any]]) -> None:
        self._lines = list(lines)

    def scores(self, system: str, **where: Any) -> dict[int, dict[str, Any]]:
        """By training seed, the score of a system in the one setting that ``where`` describes.

        Raises:
            ValueError: several settings fit.
        """
        found: dict[int, dict[str, Any]] = {}
        for line in self._lines:
            if line["system"] == system and all(line[k] == v for k, v in where.items()):
                if line["training_seed"] in found:
                    raise ValueError(f"{system}: several settings fit {where}")
                found[line["training_seed"]] = line["score"]
        return dict(sorted(found.items()))

    def accuracies(self, system: str, **where: Any) -> list[float]:
        """Accuracy of each training seed; empty where the system was not evaluated there."""
        return [score["accuracy"] for score in self.scores(system, **where).values()]

    def mean_over(self, system: str, snrs_db: Sequence[float], **where: Any) -> dict[int, float]:
        """By training seed, accuracy averaged over SNRs [dB]; only seeds that were evaluated at all."""
        by_snr = [self.scores(system, snr_db=snr_db, **where) for snr_db in snrs_db]
        seeds = set(by_snr[0]).intersection(*by_snr[1:]) if by_snr else set()
        return {
            seed: statistics.fmean(scores[seed]["accuracy"] for scores in by_snr) for seed in sorted(seeds)
        }

    def by_type(self, system: str, **where: Any) -> dict[str, dict[str, Any]]:
        """Accuracy of each question type, over training seeds."""
        found: dict[str, list[float]] = {}
        for score in self.scores(system, **where).values():
            for kind, part in score["per_type"].items():
                found.setdefault(kind, []).append(part["accuracy"])
        return {kind: spread(values) for kind, values in found.items()}


def paired_difference(first: dict[int, float], second: dict[int, float]) -> list[float]:
    """First minus second, for each training seed that both have."""
    return [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]
