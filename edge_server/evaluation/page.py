"""The page that reads the results: Markdown whose every number comes from a JSON file beside it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

#: The page, beside the JSON files.
PAGE = "README.md"

Found = Mapping[str, Any]
"""JSON files by name, without their ending."""


def write_page(folder: Path) -> None:
    """Write the page of a folder of results. Results that are not there are named as missing."""
    files = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    parts = [_HEAD, *(_section(title, make, files) for title, make in _SECTIONS.items())]
    (folder / PAGE).write_text("\n".join(parts))


def _section(title: str, make: Callable[[Found], str], files: Found) -> str:
    try:
        body = make(files)
    except (KeyError, IndexError, StopIteration) as missing:
        body = f"Not measured: {missing} is missing."
    return f"## {title}\n\n{body.rstrip()}\n"


def _must_show(files: Found) -> str:
    rows = files["must_show"]["rows"]
    told = [
        (
            row["row"],
            row.get("asked", ""),
            _measured(row) if row["met"] is not None else row["missing"],
            {True: "yes", False: "**no**", None: "**missing**"}[row["met"]],
        )
        for row in rows
    ]
    kinds = (("**Falls short**", False), ("**Not measured**", None))
    named = [(told, "; ".join(row["row"] for row in rows if row["met"] is met)) for told, met in kinds]
    verdict = "\n\n".join(f"{told}: {rows_named}." for told, rows_named in named if rows_named)
    verdict = verdict or "Everything that was promised is met."
    notes = [_long_budget(row) for row in rows if row.get("at_long_budget")]
    return "\n\n".join([_table(("promise", "asked", "measured", "met"), told), verdict, *notes])


def _measured(row: Mapping[str, Any]) -> str:
    """What was measured, a share of questions or a ratio as it was asked; and details that are numbers."""
    if "%" in row["asked"] and "encode" not in row["asked"]:
        told = f"{100 * row['measured']:+.1f} %" if "+" in row["asked"] else _percent(row["measured"])
    else:
        told = f"{row['measured']:.3f}"
    more = {
        name: value for name, value in row.items() if name not in ("measured", "met") and _is_number(value)
    }
    details = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in more.items())
    return f"{told} ({details})" if details else told


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _long_budget(row: Mapping[str, Any]) -> str:
    long = row["at_long_budget"]
    return f"At the long budget, two-stage minus no alignment: {_percent_spread(long)}."


def _coverage(files: Found) -> str:
    figure = files["coverage"]
    wanted = len(figure["seeds"])
    short = {system: seeds for system, seeds in figure["complete"].items() if len(seeds) < wanted}
    if not short:
        return f"Complete: every system has been trained and examined with {wanted} seeds."
    rows = [(system, ", ".join(map(str, seeds)) or "none") for system, seeds in short.items()]
    told = (
        f"**Not complete.** {wanted} seeds are meant to be trained; what has fewer is to be read with care:"
    )
    return f"{told}\n\n{_table(('system', 'seeds done'), rows)}"


def _accuracy(files: Found) -> str:
    figure = files["accuracy_snr"]
    snrs = figure["curves"][0]["snr_db"]
    prior = figure["blind_prior"]["accuracy"]
    rows = [
        (
            curve["system"],
            curve["token_length"],
            curve["channel"] + (f", {curve['fading']}" if curve["channel"] != "awgn" else ""),
            *(_percent(point["mean"]) for point in curve["accuracy"]),
            f"{100 * (statistics.fmean(point['mean'] for point in curve['accuracy']) - prior):+.1f}",
            len(curve["accuracy"][0]["values"]),
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
    )
    oracle = _percent(figure["text_oracle"]["accuracy"])
    frame = (
        f"{figure['questions']} questions; blind prior {_percent(prior)}, text oracle {oracle}. "
        f"Standard deviation over training seeds: at most {_percent(max(spreads))}."
    )
    clean = ", ".join(f"{system} {_percent_spread(found)}" for system, found in figure["no_channel"].items())
    return "\n\n".join(
        [
            "![Accuracy against SNR](accuracy_snr.png)",
            _table(head, rows),
            frame,
            f"Tokens with no channel: {clean}.",
            "By question type: ![Accuracy by question type](accuracy_types.png)",
        ]
    )


def _convergence(files: Found) -> str:
    figure = files["convergence"]
    rows = [
        (
            curve["system"],
            _percent_spread(curve["final"]),
            f"{curve['rounds_to_nearly']['mean']:.0f} ± {curve['rounds_to_nearly']['std']:.0f}",
        )
        for curve in figure["curves"]
    ]
    head = ("system", "final accuracy", f"rounds to {figure['nearly']:.0%} of it")
    return "\n\n".join(
        [
            "![Convergence](convergence.png)",
            _table(head, rows),
            f"On {figure['val_clips']} clips of the validation split, AWGN at 10 dB. 0 rounds: never below.",
        ]
    )


def _token_length(files: Found) -> str:
    figure = files["token_length"]
    parts = ["![Token length](token_length.png)"]
    for front in figure["fronts"]:
        rows = [
            (p["system"], p["token_length"], f"{1e6 * p['airtime_s']:.0f}", _percent(p["accuracy"]))
            for p in front["points"]
        ]
        parts += [
            f"The front at {front['snr_db']:g} dB:",
            _table(("system", "token length", "airtime [µs]", "accuracy"), rows),
        ]
    return "\n\n".join(parts)


def _alignment(files: Found) -> str:
    figure = files["alignment_seen"]
    rows = []
    for curve in figure["recall"]:
        at = curve["snr_db"].index(figure["picture_snr_db"])
        rows.append(
            (
                curve["system"],
                f"{curve['slot']} to text",
                curve["when"],
                *(_percent_spread(curve[name][at]) for name in ("recall_at_1", "recall_at_5")),
                _percent(curve["chance_at_1"][at]["mean"]),
            )
        )
    head = ("system", "retrieval", "stage 1", "recall@1", "recall@5", "chance@1")
    return "\n\n".join(
        [
            "![Tokens and words before and after stage 1](alignment_seen.png)",
            f"At {figure['picture_snr_db']:g} dB, among {figure['clips']} clips:",
            _table(head, rows),
        ]
    )


def _question_size(files: Found) -> str:
    figure = files["question_size"]
    rows = [
        (
            row["kind"],
            f"{row['snr_db']:g} dB",
            row["token_length"],
            row["token_channel_uses"],
            f"{row['media_channel_uses']:.0f}",
            f"{row['media_bytes']:.0f}",
            f"{row['share']:.4f}",
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
            f"never answered as well as the tokens, what counts is where they are answered best. Asked were "
            f"{told}.",
            _table(head, rows),
        ]
    )


def _device(files: Found) -> str:
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
        by_snr.setdefault((row["graphs"], row["payload"]), []).append(_percent(row["accuracy"]))
    snrs = dict.fromkeys(f"{row['snr_db']:g} dB" for row in report["accuracy"])
    machine = report["machine"]
    return "\n\n".join(
        [
            "![What the device pays](device_cost.png)",
            _table(
                ("encoders", "MB", "MB of memory", "encode [ms]", "lower", "upper", "over fp32"), encoders
            ),
            f"One thread; {machine['processor']}, vector instructions: {', '.join(machine['instructions'])}.",
            _table(
                ("graphs", "payload", "bytes of a frame", *snrs),
                [(*key, frame_bytes[key[1]], *found) for key, found in by_snr.items()],
            ),
        ]
    )


def _ablation(files: Found) -> str:
    figure = files["ablation"]
    rows = [
        (
            row["system"],
            row["change"],
            _percent_spread(row["accuracy"]),
            _percent_spread(row["adds"], sign=True) if row.get("adds") else "",
        )
        for row in (*figure["ladder"], *figure["beside"])
    ]
    return "\n\n".join(
        [
            "Mean accuracy over the SNRs of figure A, AWGN. Each rung keeps the changes of those above it.",
            _table(("system", "change", "accuracy", "adds"), rows),
            "![Ablation](ablation.png)",
        ]
    )


def _paper_scale(files: Found) -> str:
    if "paper_scale" not in files:
        return (
            "Step time, throughput and peak memory of the full-size models need a GPU; they were not "
            "measured (there is no `paper_scale.json`)."
        )
    rows = [tuple(row.values()) for row in files["paper_scale"]["rows"]]
    return _table(tuple(files["paper_scale"]["rows"][0]), rows)


def _made_with(files: Found) -> str:
    figure = files["accuracy_snr"]
    budget = ", ".join(f"{name} {value}" for name, value in figure["budget"].items())
    return f"Commit `{figure['commit']}`. {budget}."


_HEAD = """# Results

Every number here is read from a JSON file in this folder by `edge-server study` (`make results`); so are the
figures. The systems: [`systems.py`](../../edge_server/training/systems.py); seeds, settings, budgets:
[`study.py`](../../edge_server/evaluation/study.py). All systems share encoders, foundation and clips; they
differ in the link and in how it was trained. ± is the standard deviation over training seeds, how many in
brackets; a value with one seed has none.
"""

_SECTIONS: Mapping[str, Callable[[Found], str]] = {
    "What was promised": _must_show,
    "How far the study is": _coverage,
    "A. Accuracy against SNR": _accuracy,
    "B. Convergence": _convergence,
    "C. Token length": _token_length,
    "D. Alignment seen": _alignment,
    "E. Bytes and channel uses": _question_size,
    "F. What the device pays": _device,
    "Ablation": _ablation,
    "Paper scale": _paper_scale,
    "How it was made": _made_with,
}


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _percent_spread(found: Mapping[str, Any], *, sign: bool = False) -> str:
    mean, std, seeds = 100 * found["mean"], 100 * found["std"], len(found["values"])
    around = f" ± {std:.1f}" if seeds > 1 else ""
    return f"{mean:{'+' if sign else ''}.1f}{around} % ({seeds})"
