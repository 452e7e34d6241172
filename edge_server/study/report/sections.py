"""Sections of the page, each from the JSON files that it needs.

A section whose files are missing raises KeyError, which names one.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

from device_agent.channel import MODELS
from edge_server.study.figures.must_show import SHARE
from edge_server.study.report.markdown import percent, percent_spread, spread_of, table

Found = Mapping[str, Any]
"""JSON files by name, without their ending."""


def must_show(files: Found) -> str:
    """What was promised, beside what was measured; what falls short, and what was not measured."""
    rows = files["must_show"]["rows"]
    told = [
        (
            row["row"],
            row.get("asked", ""),
            _measured(row) if "missing" not in row else "",
            {True: "yes", False: "**no**", None: "not settled" if "unsettled" in row else "**missing**"}[
                row["met"]
            ],
        )
        for row in rows
    ]
    verdict = "\n\n".join(
        f"**{title}**: {named}."
        for title, named in (
            ("Falls short", "; ".join(row["row"] for row in rows if row["met"] is False)),
            ("Not settled", "; ".join(f"{r['row']} ({r['unsettled']})" for r in rows if "unsettled" in r)),
            ("Not measured", "; ".join(f"{r['row']} ({r['missing']})" for r in rows if "missing" in r)),
        )
        if named
    )
    verdict = verdict or "Everything that was promised is met."
    notes = [_long_budget(row) for row in rows if row.get("at_long_budget")]
    return "\n\n".join([table(("promise", "asked", "measured", "met"), told), verdict, *notes])


def _measured(row: Mapping[str, Any]) -> str:
    """What was measured, and what was measured beside it."""
    numbers = [(row["measured"], row["unit"])]
    numbers += zip(row.get("beside", ()), row.get("beside_units", ()), strict=True)
    told = [
        "undefined" if value is None else percent(value) if unit == SHARE else f"{value:.3f}"
        for value, unit in numbers
    ]
    sides = [row.get("sides"), *row.get("beside_sides", ())]
    return "; ".join(
        number + _sides(found, unit) for number, found, (_, unit) in zip_longest(told, sides, numbers)
    )


def _sides(sides: Mapping[str, float] | None, unit: str) -> str:
    """The two sides of a ratio or a difference."""
    if not sides:
        return ""
    told = (f"{name} {percent(side) if unit == SHARE else f'{side:.4g}'}" for name, side in sides.items())
    return f" ({', '.join(told)})"


def _long_budget(row: Mapping[str, Any]) -> str:
    long = row["at_long_budget"]
    return f"At the long budget, two-stage minus no alignment: {percent_spread(long)}."


def budget_cells(files: Found, system: str) -> tuple[str, str, str]:
    """Clips, questions and seconds of a system; a digital baseline uses the two-stage link."""
    rows = {row["system"]: row for row in files["budgets"]["systems"]}
    row = rows.get(system) or rows["two-stage"]
    first, second = row["stage_1"], row["stage_2"]
    clips = f"{first['clips']} + {second['clips']}"
    seconds = spread_of(second["elapsed_s"], 0) if second["elapsed_s"] else "not recorded"
    return clips, str(second["questions_at_most"]), seconds


_BUDGET_HEAD = ("clips", "questions", "seconds")


def estimated(files: Found) -> str:
    """The shipped model where gains are estimated from pilots."""
    figure = files["shipped_estimated"]
    snrs = list(dict.fromkeys(row["snr_db"] for row in figure["rows"]))
    by_pilots: dict[int | None, list[str]] = {}
    for row in figure["rows"]:
        by_pilots.setdefault(row["pilots"], []).append(percent(row["accuracy"]))
    rows = [
        ("perfect" if pilots is None else f"{pilots} pilots", *found) for pilots, found in by_pilots.items()
    ]
    return "\n\n".join(
        [
            f"`{figure['model']}`, trained with perfect CSI, over Rayleigh block fading; pilots per codeword:"
            "",
            table(("CSI", *(f"{snr:g} dB" for snr in snrs)), rows),
        ]
    )


def coverage(files: Found) -> str:
    """Which systems have fewer training seeds than are meant to be."""
    figure = files["coverage"]
    wanted = len(figure["seeds"])
    short = {system: seeds for system, seeds in figure["complete"].items() if len(seeds) < wanted}
    if not short:
        return f"Complete: every system has been trained and evaluated with {wanted} seeds."
    rows = [(system, ", ".join(map(str, seeds)) or "none") for system, seeds in short.items()]
    told = (
        f"**Not complete.** {wanted} seeds are meant to be trained; what has fewer is to be read with care:"
    )
    return f"{told}\n\n{table(('system', 'seeds done'), rows)}"


def accuracy(files: Found) -> str:
    """Figure A: every curve as a row."""
    figure = files["accuracy_snr"]
    snrs = figure["curves"][0]["snr_db"]
    prior = figure["blind_prior"]["accuracy"]
    rows = [
        (
            curve["system"],
            curve["token_length"],
            curve["channel"] + (f", {curve['fading']}" if MODELS[curve["channel"]].fades else ""),
            *(percent(point["mean"]) for point in curve["accuracy"]),
            f"{100 * (statistics.fmean(point['mean'] for point in curve['accuracy']) - prior):+.1f}",
            len(curve["accuracy"][0]["values"]),
            *budget_cells(files, curve["system"]),
        )
        for curve in figure["curves"]
    ]
    spreads = [point["std"] for curve in figure["curves"] for point in curve["accuracy"]]
    head = (
        "system",
        "tokens",
        "channel",
        *(f"{snr:g} dB" for snr in snrs),
        "mean above blind prior",
        "seeds",
        *_BUDGET_HEAD,
    )
    oracle = percent(figure["text_oracle"]["accuracy"])
    frame = (
        f"{figure['questions']} questions; blind prior {percent(prior)}, text oracle {oracle}. "
        f"Standard deviation over training seeds: at most {percent(max(spreads))}."
    )
    clean = ", ".join(f"{system} {percent_spread(found)}" for system, found in figure["no_channel"].items())
    return "\n\n".join(
        [
            "![Accuracy against SNR](accuracy_snr.png)",
            table(head, rows),
            frame,
            f"Tokens with no channel: {clean}.",
            "By question type: ![Accuracy by question type](accuracy_types.png)",
        ]
    )


def convergence(files: Found) -> str:
    """Figure B: final accuracy, and rounds until nearly there."""
    figure = files["convergence"]
    rows = [
        (
            curve["system"],
            percent_spread(curve["final"]),
            spread_of(curve["rounds_to_nearly"], 0),
            *budget_cells(files, curve["system"]),
        )
        for curve in figure["curves"]
    ]
    head = ("system", "final accuracy", f"rounds to {figure['nearly']:.0%} of it", *_BUDGET_HEAD)
    return "\n\n".join(
        [
            "![Convergence](convergence.png)",
            table(head, rows),
            f"On {figure['val_clips']} clips of the validation split, AWGN at 10 dB. 0 rounds: never below. "
            "Rounds are of stage 2; stage 1's steps come before them.",
        ]
    )


def token_length(files: Found) -> str:
    """Figure C: the fronts."""
    figure = files["token_length"]
    parts = ["![Token length](token_length.png)"]
    for front in figure["fronts"]:
        rows = [
            (p["system"], p["token_length"], f"{1e6 * p['airtime_s']:.0f}", percent(p["accuracy"]))
            for p in front["points"]
        ]
        parts += [
            f"The front at {front['snr_db']:g} dB:",
            table(("system", "token length", "airtime [µs]", "accuracy"), rows),
        ]
    return "\n\n".join(parts)


def alignment(files: Found) -> str:
    """Figure D: recall before and after stage 1."""
    figure = files["alignment_seen"]
    rows = []
    for curve in figure["recall"]:
        at = curve["snr_db"].index(figure["picture_snr_db"])
        rows.append(
            (
                curve["system"],
                f"{curve['slot']} to text",
                curve["when"],
                *(percent_spread(curve[name][at]) for name in ("recall_at_1", "recall_at_5")),
                percent(curve["chance_at_1"][at]["mean"]),
            )
        )
    head = ("system", "retrieval", "stage 1", "recall@1", "recall@5", "chance@1")
    return "\n\n".join(
        [
            "![Tokens and words before and after stage 1](alignment_seen.png)",
            f"At {figure['picture_snr_db']:g} dB, among {figure['clips']} clips:",
            table(head, rows),
        ]
    )


def question_size(files: Found) -> str:
    """Figure E: channel uses at equal accuracy."""
    figure = files["question_size"]
    rows = [
        (
            row["kind"],
            f"{row['snr_db']:g} dB",
            row["token_length"],
            row["token_channel_uses"],
            f"{row['media_channel_uses']:.0f}",
            f"{row['media_bytes']:.0f}",
            "undefined" if row["share"] is None else f"{row['share']:.4f}",
            f"{row['never_as_good']} of {row['seeds']}",
        )
        for row in figure["equal_accuracy"]
        if "share" in row
    ]
    head = (
        "media",
        "SNR",
        "tokens",
        "their channel uses",
        "of the media",
        "bytes of the media",
        "share",
        "seeds never as good",
    )
    asked = {point["kind"]: point["questions"] for point in figure["media"]}
    told = ", ".join(f"{kind}: {questions} questions" for kind, questions in asked.items())
    return "\n\n".join(
        [
            "![Bytes and channel uses](question_size.png)",
            "Channel uses of a question at equal accuracy; the media go over an ideal code. Where they are "
            "not answered as well as the tokens with every seed, the share is undefined; their uses and "
            f"bytes are then where they are answered best. Asked were {told}.",
            table(head, rows),
        ]
    )


def device(files: Found) -> str:
    """Figure F: encoders and payloads."""
    report = files["device_cost"]
    encoders = [
        (
            row["name"],
            f"{sum(row['size_bytes'].values()) / 1e6:.2f}",
            f"{row['memory']['encoding_bytes'] / 1e6:.0f}",
            *(f"{1e3 * row['encode_s'][name]:.1f}" for name in ("median", "lower", "upper")),
            f"{row['encode_over_fp32']['median']:.2f}",
        )
        for row in report["encoders"]
    ]
    frame_bytes = {row["dtype"]: f"{row['frame_bytes']:.0f}" for row in report["payloads"]}
    by_snr: dict[tuple[str, str], list[str]] = {}
    for row in report["accuracy"]:
        by_snr.setdefault((row["graphs"], row["payload"]), []).append(percent(row["accuracy"]))
    snrs = dict.fromkeys(f"{row['snr_db']:g} dB" for row in report["accuracy"])
    machine = report["machine"]
    return "\n\n".join(
        [
            "![What the device pays](device_cost.png)",
            table(("encoders", "MB", "MB of memory", "encode [ms]", "lower", "upper", "over fp32"), encoders),
            f"One thread; {machine['processor']}, vector instructions: {', '.join(machine['instructions'])}.",
            table(
                ("graphs", "payload", "bytes of a frame", *snrs),
                [(*key, frame_bytes[key[1]], *found) for key, found in by_snr.items()],
            ),
        ]
    )


def ablation(files: Found) -> str:
    """The ladder from the authors' scheme to ours, and what stands beside it."""
    figure = files["ablation"]
    rows = [
        (
            row["system"],
            row["change"],
            percent_spread(row["accuracy"]),
            percent_spread(row["adds"], sign=True) if row.get("adds") else "",
            *budget_cells(files, row["system"]),
        )
        for row in (*figure["ladder"], *figure["beside"])
    ]
    return "\n\n".join(
        [
            "Mean accuracy over the SNRs of figure A, AWGN. Each rung keeps the changes of those above it. "
            "`authors` is a variant of the authors' scheme, made here; dictation needs labels of the scene.",
            table(("system", "change", "accuracy", "adds", *_BUDGET_HEAD), rows),
            "![Ablation](ablation.png)",
        ]
    )


def paper_scale(files: Found) -> str:
    """Step times at the paper's scale, or that there are none."""
    if "paper_scale" not in files:
        return (
            "Step time, throughput and peak memory of the full-size models need a GPU; they were not "
            "measured (there is no `paper_scale.json`)."
        )
    rows = [tuple(row.values()) for row in files["paper_scale"]["rows"]]
    return table(tuple(files["paper_scale"]["rows"][0]), rows)


def made_with(files: Found) -> str:
    """Commit and budget."""
    figure = files["accuracy_snr"]
    budget = ", ".join(f"{name} {value}" for name, value in figure["budget"].items())
    return f"Commit `{figure['commit']}`. {budget}."
