"""Where analog tokens are answered better than quantised ones, and what a digital link could carry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_server.study.digital.codes import capacity_bits
from edge_server.study.digital.mcs import MCS_TABLE
from edge_server.study.study import QUANTISED, channel_uses
from edge_server.training.systems import USUAL_DIM

#: How far apart two accuracies may be and still count as equal, as a share of questions.
EQUAL = 0.005


def build(accuracy_snr: Mapping[str, Any]) -> dict[str, Any]:
    """The figure's data, from figure A's.

    ``equal_from_db`` is the SNR from which on analog and quantised tokens differ by at most ``EQUAL``; None
    where they never do for good. ``widest`` is the largest difference from there on.
    """
    uses = channel_uses(accuracy_snr["token_length"], USUAL_DIM)
    curves = accuracy_snr["curves"]
    snrs = curves[0]["snr_db"]
    return {
        "equal": EQUAL,
        "channel_uses": uses,
        "analog_minus_quantised": [
            _differences(curve, other)
            for curve in curves
            for other in curves
            if curve["system"] == "two-stage"
            and other["system"] == QUANTISED
            and all(curve[name] == other[name] for name in ("channel", "fading", "token_length"))
        ],
        "digital_link": [
            {
                "snr_db": snr,
                "capacity_bits_per_use": float(capacity_bits(1, snr)),
                "capacity_bytes": float(capacity_bits(uses, snr)) / 8,
            }
            for snr in snrs
        ],
        "lowest_scheme_bits_per_use": MCS_TABLE[0].efficiency,
    }


def _differences(analog: Mapping[str, Any], digital: Mapping[str, Any]) -> dict[str, Any]:
    points = [
        (snr, ours["mean"], theirs["mean"])
        for snr, ours, theirs in zip(analog["snr_db"], analog["accuracy"], digital["accuracy"], strict=True)
    ]
    equal_from, widest = None, None
    for snr, ours, theirs in reversed(points):
        if abs(ours - theirs) > EQUAL:
            break
        equal_from, widest = snr, max(widest or 0.0, abs(ours - theirs))
    return {
        "channel": analog["channel"],
        "fading": analog["fading"],
        "points": [
            {"snr_db": snr, "analog": ours, "quantised": theirs, "difference": ours - theirs}
            for snr, ours, theirs in points
        ],
        "equal_from_db": equal_from,
        "widest": widest,
    }
