"""What was promised, what was measured, and by how much it falls short: from the figures' JSON alone."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping
from typing import Any

from edge_server.study.figures.answers import paired_difference, spread

Figures = Mapping[str, Any]
"""The figures' data by name; those that were not made are missing."""

GAIN = 0.137
"""The paper's gain of two-stage training, as a share of questions."""

SHARE, RATIO = "share of questions", "ratio"
"""What a row's number is."""


def build(figures: Figures) -> dict[str, Any]:
    """A row per promise. A row whose figure is missing says so."""
    rows = []
    for name, make in _ROWS.items():
        try:
            rows.append({"row": name, **make(figures)})
        except (KeyError, IndexError, StopIteration, ValueError) as missing:
            rows.append({"row": name, "met": None, "missing": f"not measured: {missing}"})
    return {"rows": rows}


def _curve(figures: Figures, system: str, fading: str = "block", channel: str = "awgn") -> Mapping[str, Any]:
    figure = figures["accuracy_snr"]
    return next(
        curve
        for curve in figure["curves"]
        if (curve["system"], curve["channel"], curve["fading"]) == (system, channel, fading)
        and curve["token_length"] == figure["token_length"]
    )


def _means(curve: Mapping[str, Any]) -> dict[float, float]:
    return {snr: point["mean"] for snr, point in zip(curve["snr_db"], curve["accuracy"], strict=True)}


def _by_seed(figures: Figures, system: str) -> dict[int, float]:
    """Mean over SNRs, AWGN, of each training seed."""
    curve = _curve(figures, system)
    by_seed = zip(*(point["values"] for point in curve["accuracy"]), strict=True)
    return {
        seed: statistics.fmean(values) for seed, values in zip(curve["training_seeds"], by_seed, strict=True)
    }


def _difference(figures: Figures, first: str, second: str) -> dict[str, Any]:
    """First minus second, paired by training seed."""
    return spread(paired_difference(_by_seed(figures, first), _by_seed(figures, second)))


def _at_least(limit: float, measured: float, unit: str, **more: Any) -> dict[str, Any]:
    """A row that is met from a limit on; what the number is made of in ``more``."""
    return {"asked": f"at least {_said(limit, unit)}", "unit": unit, "measured": measured} | {
        "met": measured >= limit,
        **more,
    }


def _at_most(limit: float, measured: float, unit: str, **more: Any) -> dict[str, Any]:
    """A row that is met up to a limit."""
    return {"asked": f"at most {_said(limit, unit)}", "unit": unit, "measured": measured} | {
        "met": measured <= limit,
        **more,
    }


def _all_of(row: dict[str, Any], *others: dict[str, Any]) -> dict[str, Any]:
    """One row of several that have to be met together; the others' numbers stand beside the first's."""
    return row | {
        "asked": "; ".join(part["asked"] for part in (row, *others)),
        "met": all(part["met"] for part in (row, *others)),
        "beside": [part["measured"] for part in others],
        "beside_units": [part["unit"] for part in others],
    }


def _said(limit: float, unit: str) -> str:
    return f"{limit:.1%}" if unit == SHARE else f"{limit:g}"


def _alignment_gain(figures: Figures) -> dict[str, Any]:
    gain = _difference(figures, "two-stage", "no-alignment")
    more: dict[str, Any] = {"spread": gain}
    try:
        more["at_long_budget"] = _difference(figures, "two-stage-long", "no-alignment-long")
    except (StopIteration, ValueError):
        more["at_long_budget"] = None
    return _at_least(GAIN, gain["mean"], SHARE, **more)


def _rounds(figures: Figures, system: str) -> Mapping[str, Any]:
    curve = next(c for c in figures["convergence"]["curves"] if c["system"] == system)
    found: Mapping[str, Any] = curve["rounds_to_nearly"]
    return found


def _slower(first: Mapping[str, Any], second: Mapping[str, Any]) -> float:
    """Rounds of one over those of another; what was there from the start counts as one round."""
    return float(max(first["mean"], 1.0) / max(second["mean"], 1.0))


def _convergence(figures: Figures) -> dict[str, Any]:
    with_it, without = _rounds(figures, "two-stage-long"), _rounds(figures, "no-alignment-long")
    ratio = _slower(with_it, without)
    return _at_most(0.5, ratio, RATIO, two_stage=with_it, no_alignment=without)


def _short_tokens(figures: Figures) -> dict[str, Any]:
    curve = next(
        c for c in figures["token_length"]["curves"] if c["system"] == "two-stage" and c["snr_db"] == 10.0
    )
    by_length = {p["token_length"]: p["accuracy"] for p in curve["points"]}
    loss = by_length[16]["mean"] - by_length[4]["mean"]
    return _at_most(0.03, loss, SHARE, tokens_4=by_length[4], tokens_16=by_length[16])


def _short_convergence(figures: Figures) -> dict[str, Any]:
    short, usual = _rounds(figures, "two-stage-4-tokens"), _rounds(figures, "two-stage-16-tokens")
    slower = _slower(short, usual)
    return _at_most(1.1, slower, RATIO, tokens_4=short, tokens_16=usual)


def _digital(figures: Figures) -> dict[str, Any]:
    ours, theirs = _means(_curve(figures, "two-stage")), _means(_curve(figures, "digital"))
    gains = {snr: ours[snr] - theirs[snr] for snr in ours}
    low = min(gain for snr, gain in gains.items() if snr <= 0)
    by_snr_db = {f"{snr:g}": gain for snr, gain in gains.items()}
    return _all_of(
        _at_least(GAIN, low, SHARE, by_snr_db=by_snr_db), _at_least(0.0, min(gains.values()), SHARE)
    )


def _authors(figures: Figures) -> dict[str, Any]:
    gain = _difference(figures, "two-stage", "authors")
    return _at_least(0.05, gain["mean"], SHARE, spread=gain)


def _graceful(figures: Figures) -> dict[str, Any]:
    means = _means(_curve(figures, "two-stage"))
    snrs = sorted(snr for snr in means if snr >= -5)
    steps = {f"{high:g} to {low:g}": means[high] - means[low] for low, high in itertools.pairwise(snrs)}
    return _at_most(0.12, max(steps.values()), SHARE, steps=steps)


def _uses(figures: Figures) -> dict[str, Any]:
    rows = [
        row
        for row in figures["question_size"]["equal_accuracy"]
        if row["kind"] == "jpeg-opus" and row["snr_db"] == 10.0 and "share" in row
    ]
    row = next(row for row in rows if row["token_length"] == 4)
    return _at_most(0.1, row["share"], RATIO, rows=rows)


def _shipped(figures: Figures) -> dict[str, Any]:
    rows = figures["shipped"]["rows"]
    found = {(row["channel"], row["fading"]): row["accuracy"] for row in rows if row["snr_db"] == 0.0}
    return _all_of(
        _at_least(0.80, found["awgn", "block"], SHARE), _at_least(0.74, found["rayleigh", "block"], SHARE)
    )


def _int8(figures: Figures) -> dict[str, Any]:
    found = figures["device_cost"]["int8_against_fp32"]
    asked = found["asked"]
    return _all_of(
        _at_most(asked["encode_ratio"], found["encode_ratio"], RATIO),
        _at_most(asked["points_lost"] / 100, max(found["points_lost"].values()) / 100, SHARE),
        _at_most(asked["bytes_ratio"], found["data_bytes_ratio"], RATIO),
    )


_ROWS = {
    "Two-stage minus no alignment, mean over SNR, at the paper's budget": _alignment_gain,
    "Rounds to 90% of the final accuracy, two-stage over no alignment": _convergence,
    "What 4 tokens per modality instead of 16 lose, two-stage, 10 dB": _short_tokens,
    "Rounds to 90%, 4 tokens over 16": _short_convergence,
    "Two-stage minus digital separate coding, same channel uses: least to 0 dB; at any SNR": _digital,
    "Two-stage minus authors' scheme, mean over SNR": _authors,
    "What 5 dB less cost at most, from 20 dB down to -5 dB": _graceful,
    "Channel uses at equal accuracy, 4 tokens over JPEG and Opus with an ideal code, 10 dB": _uses,
    "Accuracy at 0 dB, shipped model: AWGN; Rayleigh block": _shipped,
    "int8 graphs and int8 payload against fp32: encode time; accuracy lost; bytes": _int8,
}
