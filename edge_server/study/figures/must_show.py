"""What was promised, what was measured, and by how much it falls short: from the figures' JSON alone."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping
from typing import Any

from edge_server.study.digital.codes import capacity_bits
from edge_server.study.digital.mcs import MCS_TABLE
from edge_server.study.figures.answers import paired_difference, spread
from edge_server.study.study import channel_uses
from edge_server.training.systems import USUAL_DIM

Figures = Mapping[str, Any]
"""The figures' data by name; those that were not made are missing."""

GAIN = 0.137
"""The paper's gain of two-stage training, as a share of questions."""

SHARE, RATIO = "share of questions", "ratio"
"""What a row's number is."""


def build(figures: Figures) -> dict[str, Any]:
    """A row per promise.

    A row whose figure is missing says so in ``missing``. A row that was measured, but does not settle what
    was promised, says why in ``unsettled``. Neither counts as met or as failed: ``met`` is None. A ratio
    has its two sides in ``sides``, first over second.
    """
    rows = []
    for name, make in _ROWS.items():
        read = _Noted(figures)
        try:
            rows.append({"row": name, **make(read), "from": list(read.names)})
        except (KeyError, IndexError, StopIteration, ValueError) as missing:
            rows.append({"row": name, "met": None, "missing": f"not measured: {missing}"})
    return {"rows": rows}


class _Noted(dict[str, Any]):
    """The figures, and which of them a row read."""

    def __init__(self, figures: Figures) -> None:
        super().__init__(figures)
        self.names: dict[str, None] = {}

    def __getitem__(self, name: str) -> Any:
        found = super().__getitem__(name)
        self.names[name] = None
        return found


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


def _ratio_at_most(limit: float, sides: Mapping[str, float], **more: Any) -> dict[str, Any]:
    """A row of a ratio, first side over second; it needs both."""
    first, second = sides.values()
    if not (math.isfinite(first) and math.isfinite(second) and first > 0 and second > 0):
        return _unsettled(
            "a side of the ratio is nothing", f"at most {limit:g}", RATIO, None, sides=dict(sides)
        )
    return _at_most(limit, first / second, RATIO, sides=dict(sides), **more)


def _unsettled(why: str, asked: str, unit: str, measured: float | None, **more: Any) -> dict[str, Any]:
    """A row whose promise is neither kept nor broken by what was measured."""
    return {"asked": asked, "unit": unit, "measured": measured, "met": None, "unsettled": why, **more}


def _all_of(row: dict[str, Any], *others: dict[str, Any]) -> dict[str, Any]:
    """One row of several that have to be met together; the others' numbers stand beside the first's."""
    return row | {
        "asked": "; ".join(part["asked"] for part in (row, *others)),
        "met": all(part["met"] for part in (row, *others)),
        "beside": [part["measured"] for part in others],
        "beside_units": [part["unit"] for part in others],
        "beside_sides": [part.get("sides") for part in others],
        "parts": [row, *others],
    }


def _said(limit: float, unit: str) -> str:
    return f"{limit:.1%}" if unit == SHARE else f"{limit:g}"


def _contrastive_gain(figures: Figures) -> dict[str, Any]:
    figure = figures["ablation"]
    found = {row["system"]: row["accuracy"] for row in (*figure["ladder"], *figure["beside"])}
    with_it, without = found["rung-length"], found["no-alignment"]
    gain = spread([a - b for a, b in zip(with_it["values"], without["values"], strict=True)])
    return _at_least(GAIN, gain["mean"], SHARE, spread=gain, aligned=with_it, unaligned=without)


def _dictation_gain(figures: Figures) -> dict[str, Any]:
    gain = _difference(figures, "two-stage", "no-alignment")
    more: dict[str, Any] = {"spread": gain}
    try:
        more["at_long_budget"] = _difference(figures, "two-stage-long", "no-alignment-long")
    except (StopIteration, ValueError):
        more["at_long_budget"] = None
    why = "dictation needs a label of the scene for each word, which recorded clips do not have"
    return _unsettled(why, f"at least {_said(GAIN, SHARE)}", SHARE, gain["mean"], **more)


def _rounds(figures: Figures, system: str) -> Mapping[str, Any]:
    curve = next(c for c in figures["convergence"]["curves"] if c["system"] == system)
    found: Mapping[str, Any] = curve["rounds_to_nearly"]
    return found


def _convergence(figures: Figures) -> dict[str, Any]:
    with_it, without = _rounds(figures, "two-stage-long"), _rounds(figures, "no-alignment-long")
    steps = figures["convergence"]["budget"]["alignment_steps"]
    if min(without["values"]) <= 0.0:
        why = "without alignment, accuracy is above the threshold before the first round with some seeds"
        return _unsettled(why, "at most 0.5", RATIO, None, two_stage=with_it, no_alignment=without)
    return _ratio_at_most(
        0.5,
        {"steps of stage 1 and rounds": steps + with_it["mean"], "rounds": without["mean"]},
        two_stage=with_it,
        no_alignment=without,
        without_stage_1={"rounds": with_it["mean"], "ratio": with_it["mean"] / without["mean"]},
    )


def _short_tokens(figures: Figures) -> dict[str, Any]:
    curve = next(
        c for c in figures["token_length"]["curves"] if c["system"] == "two-stage" and c["snr_db"] == 10.0
    )
    by_length = {p["token_length"]: p["accuracy"] for p in curve["points"]}
    loss = by_length[16]["mean"] - by_length[4]["mean"]
    return _at_most(0.03, loss, SHARE, tokens_4=by_length[4], tokens_16=by_length[16])


def _short_convergence(figures: Figures) -> dict[str, Any]:
    short, usual = _rounds(figures, "two-stage-4-tokens"), _rounds(figures, "two-stage-16-tokens")
    beside = {"tokens_4": short, "tokens_16": usual}
    if min(*short["values"], *usual["values"]) <= 0.0:
        why = "both are above the threshold before the first round with some seeds; the ratio says nothing"
        return _unsettled(why, "at most 1.1", RATIO, None, **beside)
    return _ratio_at_most(1.1, {"4 tokens": short["mean"], "16 tokens": usual["mean"]}, **beside)


def _digital(figures: Figures) -> dict[str, Any]:
    ours, theirs = _means(_curve(figures, "two-stage")), _means(_curve(figures, "digital"))
    gains = {snr: ours[snr] - theirs[snr] for snr in ours}
    low = min(gain for snr, gain in gains.items() if snr <= 0)
    length = figures["accuracy_snr"]["token_length"]
    uses = channel_uses(length, USUAL_DIM)
    lowest, capacity = MCS_TABLE[0].efficiency, float(capacity_bits(1, min(ours)))
    why = (
        f"no contest: JPEG and Opus have {uses} channel uses, at 0 dB "
        f"{float(capacity_bits(uses, 0.0)) / 8:.0f} bytes at most, and the lowest scheme's {lowest:.3f} bits "
        f"per use are {'above' if lowest > capacity else 'below'} the capacity of {capacity:.4f} at "
        f"{min(ours):g} dB"
    )
    return _unsettled(
        why,
        f"at least {_said(GAIN, SHARE)} to 0 dB",
        SHARE,
        low,
        by_snr_db={f"{snr:g}": gain for snr, gain in gains.items()},
    )


def _authors(figures: Figures) -> dict[str, Any]:
    gain = _difference(figures, "two-stage", "authors")
    why = "it is a variant made here, not the scheme that they published, which was not run"
    return _unsettled(why, f"at least {_said(0.05, SHARE)}", SHARE, gain["mean"], spread=gain)


def _graceful(figures: Figures) -> dict[str, Any]:
    means = _means(_curve(figures, "two-stage"))
    snrs = sorted(snr for snr in means if snr >= -5)
    steps = {f"{high:g} to {low:g}": means[high] - means[low] for low, high in itertools.pairwise(snrs)}
    return _at_most(0.12, max(steps.values()), SHARE, steps=steps)


def _uses(figures: Figures) -> dict[str, Any]:
    rows = [
        row
        for row in figures["question_size"]["equal_accuracy"]
        if row["kind"] == "jpeg-opus" and row["snr_db"] == 10.0 and row["seeds"]
    ]
    row = next(row for row in rows if row["token_length"] == 4)
    if row["never_as_good"]:
        why = (
            f"JPEG and Opus are never answered as well with {row['never_as_good']} of {row['seeds']} seeds, "
            "so there are no uses of equal accuracy"
        )
        return _unsettled(why, "at most 0.1", RATIO, None, rows=rows)
    return _ratio_at_most(
        0.1, {"tokens": row["token_channel_uses"], "media": row["media_channel_uses"]}, rows=rows
    )


def _shipped(figures: Figures) -> dict[str, Any]:
    rows = figures["shipped"]["rows"]
    found = {(row["channel"], row["fading"]): row["accuracy"] for row in rows if row["snr_db"] == 0.0}
    return _all_of(
        _at_least(0.80, found["awgn", "block"], SHARE), _at_least(0.74, found["rayleigh", "block"], SHARE)
    )


def _estimated(figures: Figures) -> dict[str, Any]:
    rows = figures["shipped_estimated"]["rows"]
    at_0_db = {row["pilots"]: row["accuracy"] for row in rows if row["snr_db"] == 0.0}
    loss = at_0_db[None] - at_0_db[4]
    why = "the model was trained with perfect CSI, not for pilots"
    sides = {"perfect": at_0_db[None], "4 pilots": at_0_db[4]}
    return _unsettled(why, f"at most {_said(0.03, SHARE)}, trained for it", SHARE, loss, sides=sides)


def _int8(figures: Figures) -> dict[str, Any]:
    report = figures["device_cost"]
    found = report["int8_against_fp32"]
    asked = found["asked"]
    seconds = {row["name"]: row["encode_s"]["median"] for row in report["encoders"]}
    carried = {row["dtype"]: row["data_bytes"] for row in report["payloads"]}
    return _all_of(
        # Measured in pairs, so the ratio of the medians is near it, not the same.
        _at_most(
            asked["encode_ratio"],
            found["encode_ratio"],
            RATIO,
            sides={"int8 [s]": seconds["int8"], "fp32 [s]": seconds["fp32"]},
        ),
        _at_most(asked["points_lost"] / 100, max(found["points_lost"].values()) / 100, SHARE),
        _ratio_at_most(
            asked["bytes_ratio"], {"int8 [bytes]": carried["int8"], "float32 [bytes]": carried["float32"]}
        ),
    )


_ROWS = {
    "Contrastive alignment minus none, mean over SNR, equal rounds of stage 2 (stage 1 not counted)": (
        _contrastive_gain
    ),
    "Alignment with dictation minus none, mean over SNR, equal rounds of stage 2": _dictation_gain,
    "Rounds to 90% of the final accuracy, two-stage with its stage 1 over no alignment": _convergence,
    "What 4 tokens per modality instead of 16 lose, two-stage, 10 dB": _short_tokens,
    "Rounds to 90%, 4 tokens over 16": _short_convergence,
    "Two-stage minus JPEG and Opus, separately coded, same channel uses: least to 0 dB": _digital,
    "Two-stage minus a variant of the authors' scheme, mean over SNR": _authors,
    "What 5 dB less cost at most, from 20 dB down to -5 dB": _graceful,
    "Channel uses at equal accuracy, 4 tokens over JPEG and Opus with an ideal code, 10 dB": _uses,
    "Accuracy at 0 dB, shipped model, perfect CSI: AWGN; Rayleigh block": _shipped,
    "What 4 pilots in place of perfect CSI cost the shipped model, Rayleigh block, 0 dB": _estimated,
    "int8 graphs and int8 payload against fp32: encode time; accuracy lost; bytes": _int8,
}
