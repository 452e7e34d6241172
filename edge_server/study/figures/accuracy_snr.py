"""Figure A: accuracy against SNR, every system, three channels, by question type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_server.study.figures.answers import Answers, spread
from edge_server.study.study import BASELINES, CHANNELS, MAIN, SNRS_DB

#: At which channel a question type's curve is shown.
TYPE_CHANNEL = CHANNELS[0]


def build(
    answers: Answers, baselines: Answers, token_length: int, bounds: Mapping[str, Any]
) -> dict[str, Any]:
    """The figure's data.

    Args:
        answers: what the trained systems answered.
        baselines: what the digital baselines answered.
        token_length: tokens per modality of all but the curves that name another.
        bounds: blind prior, text oracle and whatever else needs no SNR, as scores.
    """
    curves = []
    for system in MAIN:
        for model, fading in CHANNELS:
            where = {"channel": model, "fading": fading, "token_length": token_length}
            curves += _curve(answers, system, where, SNRS_DB)
    for system in ("two-stage", "no-alignment"):
        where = {"channel": "awgn", "fading": "block", "token_length": 4}
        if token_length != 4:
            curves += _curve(answers, system, where, SNRS_DB)
    for system in BASELINES:
        for model, fading in CHANNELS:
            where = {"channel": model, "fading": fading, "token_length": token_length}
            curves += _curve(baselines, system, where, SNRS_DB)
    clean = {
        system: spread(found)
        for system in MAIN
        if (found := answers.accuracies(system, channel="none", token_length=token_length))
    }
    return {"token_length": token_length, **bounds, "no_channel": clean, "curves": curves}


def _curve(
    answers: Answers, system: str, where: dict[str, Any], snrs_db: Sequence[float]
) -> list[dict[str, Any]]:
    """A curve over the training seeds that were evaluated at every SNR, if there are any."""
    by_snr = [answers.scores(system, snr_db=snr_db, **where) for snr_db in snrs_db]
    seeds = sorted(set(by_snr[0]).intersection(*by_snr[1:]))
    if not seeds:
        return []
    curve: dict[str, Any] = {
        "system": system,
        **where,
        "snr_db": list(snrs_db),
        "training_seeds": seeds,
        "accuracy": [spread([scores[seed]["accuracy"] for seed in seeds]) for scores in by_snr],
    }
    if (where["channel"], where["fading"]) == TYPE_CHANNEL:
        types = [answers.by_type(system, snr_db=snr_db, **where) for snr_db in snrs_db]
        curve["per_type"] = {kind: [point[kind]["mean"] for point in types] for kind in types[0]}
    return [curve]
