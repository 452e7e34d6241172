"""The section of the page on analog tokens beside semantic digital ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_server.study.report.markdown import percent, points, table
from edge_server.study.report.sections import Found
from edge_server.study.semantic.compare import ANALOG, HARQ, IDEAL, IDEAL_OWN, ONE_BURST, REPEATED
from edge_server.study.semantic.kept import usual

_SPREAD = {"fresh": "new gains each round", "same": "one gain for all"}


def claim(files: Found) -> str:
    """Who wins where it was promised to be told."""
    point = usual(files["semantic_digital"])
    rows = {row["system"]: row for row in point["rows"]}
    told = [
        f"{_ahead(point, name)} `{name}` ({percent(rows[name]['accuracy'])}, "
        f"{rows[name]['uses']:.0f} channel uses)"
        for name in (ANALOG, REPEATED)
    ]
    harq = rows[HARQ]
    return (
        f"A description of {harq['bits']} bits with HARQ ({percent(harq['accuracy'])}, {harq['uses']:.0f} "
        f"channel uses in the mean) {' and '.join(told)}, over block fading at {point['snr_db']:g} dB (S)."
    )


def _ahead(point: Mapping[str, Any], name: str) -> str:
    """What HARQ does to an analog system; level where the interval holds no difference."""
    ahead = point["ahead"][f"{name} minus {HARQ}"]
    low, high = ahead["interval"]
    if low <= 0.0 <= high:
        return "is level with"
    return f"is {points(abs(ahead['accuracy']))} {'ahead of' if high < 0.0 else 'behind'}"


def beside_analog(files: Found) -> str:
    """What is not shown, who wins where, and every row with its channel uses."""
    report = files["semantic_digital"]
    plan = report["plan"]
    return "\n\n".join(
        [
            "**Not shown.** Learned codecs on either side: books are k-means of tokens, no receiver was "
            "trained for quantised tokens, no analog link for repetition. One model and one data set: scenes "
            "of a small generator, which few bits hold. Both sides know the gain at the receiver and have "
            "their acknowledgements for nothing; delay is bounded in rounds alone: four of one length. Bits "
            "are of fixed length; what an entropy code would save is told. Nothing stops early because the "
            "answer is sure (L).",
            f"`{report['command']}`: `{report['model']}`, {report['questions']['test']} questions about "
            f"{plan['tested']} test clips, {len(plan['seeds'])} channel seeds; 95 % intervals by bootstrap "
            f"over clips. Length, description, burst and threshold are chosen on {plan['validated']} "
            "validation clips for each line, without the gain. Prior: "
            f"{percent(report['prior'])}.",
            f"**Who wins.** {claim(files)}",
            _verdict(report),
            "![Analog and semantic digital](semantic_digital.png)",
            table(
                ("channel", "uses at most", "system", "sent", "uses", "rounds", "lost", "right", "95 %"),
                [_line(point, row) for point in report["points"] for row in point["rows"]],
            ),
            "Where the CRC never fits, `digital, HARQ` is answered from what did best on the validation "
            "split: the prior, the bits as decided, or the tokens that soft bits let expect:",
            table(
                ("channel", "uses at most", "lost", "prior", "hard", "soft", "chosen"),
                [_fallbacks(point, row) for point in report["points"] for row in point["rows"]
                 if row["system"] == HARQ],
            ),
            "Descriptions over a link without errors, validation split:",
            table(
                ("tokens", "codes per token", "bits", "entropy [bits]", "right"),
                [
                    (d["token_length"], d["stages"], d["bits"], f"{d['entropy_bits']:.0f}",
                     percent(d["validation_accuracy"]))
                    for d in report["descriptions"]
                ],
            ),
        ]
    )  # fmt: skip


def _verdict(report: Mapping[str, Any]) -> str:
    rows = []
    for point in report["points"]:
        told = []
        for name in (ANALOG, REPEATED, IDEAL, IDEAL_OWN):
            ahead = point["ahead"][f"{name} minus {HARQ}"]
            low, high = ahead["interval"]
            wins = "HARQ ahead" if high < 0.0 else "HARQ behind" if low > 0.0 else "level"
            told.append(f"{100 * ahead['accuracy']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f}), {wins}")
        rows.append((_where(point), point["budget"], *told))
    names = (f"{ANALOG}", f"{REPEATED}", IDEAL, IDEAL_OWN)
    return f"Minus `{HARQ}` [points], with the interval; level where that holds 0:\n\n" + table(
        ("channel", "uses at most", *names), rows
    )


def _where(point: Mapping[str, Any]) -> str:
    if point["channel"] == "awgn":
        return f"AWGN, {point['snr_db']:g} dB"
    return f"Rayleigh, {_SPREAD[point['spread']]}, {point['snr_db']:g} dB"


def _line(point: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[Any, ...]:
    low, high = row["interval"]
    return (
        _where(point),
        point["budget"],
        row["system"],
        f"{row['bits']} bits in bursts of {row['burst_uses']}"
        if row["system"] in (ONE_BURST, HARQ, IDEAL, IDEAL_OWN)
        else f"{row['token_length']} token{'s' * (row['token_length'] > 1)}" + _again(row),
        f"{row['uses']:.0f}",
        f"{row['rounds']:.2f}",
        percent(row["lost"]) if "lost" in row else "",
        percent(row["accuracy"]),
        f"{percent(low)} to {percent(high)}",
    )


def _again(row: Mapping[str, Any]) -> str:
    below = row["again_below_db"]
    if row["system"] == ANALOG or below == "-inf":
        return ""
    return ", always again" if below == "inf" else f", again below {below:g} dB"


def _fallbacks(point: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[Any, ...]:
    by = row["accuracy_by_fallback"]
    return (
        _where(point),
        point["budget"],
        percent(row["lost"]),
        *(percent(by[name]) for name in ("prior", "hard", "soft")),
        row["answered_from_when_lost"],
    )
