"""Figure C: accuracy against airtime, over token lengths, widths of a token, and ways to select tokens."""

from __future__ import annotations

from typing import Any

from device_agent.channel import airtime_s
from edge_server.model.config import TOKEN_LENGTHS
from edge_server.study.figures.answers import Answers, spread
from edge_server.study.study import channel_uses
from edge_server.training.systems import CHANNEL_DIMS, USUAL_DIM, of_width

#: Bandwidth that airtime is given at [Hz].
BANDWIDTH_HZ = 1e6
SNRS_DB = (10.0, 0.0)


def build(answers: Answers) -> dict[str, Any]:
    """The figure's data: a curve per system and SNR, and the front of them all."""
    systems = [("window", dim, of_width(dim)) for dim in CHANNEL_DIMS]
    systems += [(selection, USUAL_DIM, f"two-stage-{selection}") for selection in ("linspace", "queries")]
    curves = []
    for selection, channel_dim, system in systems:
        for snr_db in SNRS_DB:
            points = []
            for token_length in TOKEN_LENGTHS:
                where = {"channel": "awgn", "snr_db": snr_db, "token_length": token_length}
                found = answers.accuracies(system, **where)
                if found:
                    uses = channel_uses(token_length, channel_dim)
                    points.append(
                        {
                            "token_length": token_length,
                            "channel_uses": uses,
                            "airtime_s": airtime_s(uses, BANDWIDTH_HZ),
                            "accuracy": spread(found),
                        }
                    )
            if points:
                curve = {"system": system, "selection": selection, "channel_dim": channel_dim}
                curves.append({**curve, "snr_db": snr_db, "points": points})
    fronts = [{"snr_db": snr_db, "points": front(curves, snr_db)} for snr_db in SNRS_DB]
    return {"bandwidth_hz": BANDWIDTH_HZ, "curves": curves, "fronts": fronts}


def front(curves: list[dict[str, Any]], snr_db: float) -> list[dict[str, Any]]:
    """Points that no other beats in both airtime and accuracy, shortest first (the Pareto front)."""
    candidates = [
        {
            "system": curve["system"],
            "token_length": point["token_length"],
            "airtime_s": point["airtime_s"],
            "accuracy": point["accuracy"]["mean"],
        }
        for curve in curves
        if curve["snr_db"] == snr_db
        for point in curve["points"]
    ]
    kept: list[dict[str, Any]] = []
    for point in sorted(candidates, key=lambda p: (p["airtime_s"], -p["accuracy"])):
        if not kept or point["accuracy"] > kept[-1]["accuracy"]:
            kept.append(point)
    return kept
