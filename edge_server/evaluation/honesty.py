"""What ``edge-server evaluate`` writes of other words, of what is from elsewhere, and of confidence.

One report a function: plain values for a JSON file, and a table for whoever waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from edge_server.data.soundstage.validation_wordings import LEARNED
from edge_server.data.soundstage.wordings import HELD_OUT, Reword
from edge_server.engine.calibration import FILE, Calibration, read_calibration
from edge_server.errors import ModelError
from edge_server.evaluation.accuracy import Evaluator, Setting
from edge_server.evaluation.calibrate import MAY_LOSE, calibrate, expected_error
from edge_server.evaluation.out_of_domain import judge_in_domain, judge_kinds
from edge_server.evaluation.wordings import PLAIN, ask_in_wordings, held_out, of_demo

#: Held-out questions that are asked in every wording.
REWORDED = 600
#: Bins of the curve of confidence against accuracy.
_BINS = 10

Advance = Callable[[int], None]


def wordings_report(
    evaluator: Evaluator,
    model: Path,
    demo: Path | None,
    setting: Setting,
    count: int = REWORDED,
    advance: Advance = lambda done: None,
    wordings: Mapping[str, Reword] = HELD_OUT,
) -> dict[str, Any]:
    """Accuracy in every held-out wording, and what it loses to the benchmark's own.

    Args:
        evaluator: of the model, on a split with templates.
        model: its folder; the demo's clips are encoded by its bundle.
        demo: folder of the demo; None to leave it out.
        setting: channel and seed.
        count: questions of the split.
        advance: told of questions that were asked.
        wordings: by name; what training draws counts neither for the mean nor for the most.
    """
    asked = held_out(evaluator, count, setting, setting.seed)
    found = {"held out": ask_in_wordings(evaluator, asked, setting, setting.seed, advance, wordings)}
    questions = {"held out": len(asked)}
    if demo is not None:
        shown = of_demo(demo, model, setting)
        found["demo"] = ask_in_wordings(evaluator, shown, setting, setting.seed, advance, wordings)
        questions["demo"] = len(shown)
    both = sum(questions.values())
    rows = []
    for name in found["held out"]:
        right = sum(of[name]["right"] for of in found.values())
        plain = sum(of[PLAIN]["right"] for of in found.values())
        rows.append(
            {
                "wording": name,
                "accuracy": right / both,
                "lost": (plain - right) / both,
                "example": found["held out"][name]["example"],
                "right": {which: of[name]["right"] for which, of in found.items()},
            }
        )
    reworded = [row for row in rows if row["wording"] not in (PLAIN, LEARNED)]
    return {
        "snr_db": setting.channel.snr_db,
        "questions": questions,
        "mean_lost": sum(row["lost"] for row in reworded) / len(reworded),
        "most_lost": max(row["lost"] for row in reworded),
        "rows": rows,
    }


def wordings_table(report: dict[str, Any]) -> Table:
    """The same, to be read."""
    asked = ", ".join(f"{n} {which}" for which, n in report["questions"].items())
    table = Table(title=f"{asked} questions in other words, {report['snr_db']:g} dB")
    table.add_column("wording")
    table.add_column("right", justify="right")
    table.add_column("points lost", justify="right")
    for row in report["rows"]:
        table.add_row(row["wording"], f"{row['accuracy']:.1%}", f"{100 * row['lost']:+.1f}")
    return table


def calibration_report(
    evaluator: Evaluator,
    model: Path,
    settings: Sequence[Setting],
    commit: str,
    advance: Advance = lambda done: None,
) -> Calibration:
    """Fit a calibration on the evaluator's questions and write it into the model folder.

    Args:
        evaluator: of the model, on the validation split.
        model: its folder.
        settings: channels to fit it over.
        commit: of the code.
        advance: told of questions that were asked.
    """
    fitted = calibrate(evaluator, settings, settings[0].seed, advance=advance)
    about = {
        "questions": len(evaluator.questions),
        "snr_db": [setting.channel.snr_db for setting in settings],
        "may_lose": MAY_LOSE,
        "seed": settings[0].seed,
        "commit": commit,
    }
    fitted.write(model, about)
    return fitted


def out_of_domain_report(
    evaluator: Evaluator,
    model: Path,
    settings: Sequence[Setting],
    each: int,
    advance: Advance = lambda done: None,
) -> dict[str, Any]:
    """What is abstained on, what that costs, and how far confidence is off.

    Args:
        evaluator: of the model, on a split that it was not calibrated on.
        model: its folder.
        settings: channels for questions of the split; what is from elsewhere meets the first.
        each: questions of each kind from elsewhere.
        advance: told of questions that were asked.

    Raises:
        ModelError: the model is not calibrated.
    """
    calibration = read_calibration(model / FILE)
    if calibration is None:
        raise ModelError(f"{model}: is not calibrated; `edge-server evaluate {model} --calibrate` does it")
    seed = settings[0].seed
    kinds = judge_kinds(evaluator, calibration, settings[0], seed, each, advance)
    rows, confidences, rights = [], [], []
    for setting in settings:
        for reworded in (False, True):
            figures, confidence, right = judge_in_domain(
                evaluator, calibration, setting, seed, reworded=reworded, advance=advance
            )
            rows.append(figures)
            if not reworded:
                confidences.append(confidence)
                rights.append(right)
    confidence, right = np.concatenate(confidences), np.concatenate(rights)
    asked = sum(kind["asked"] for kind in kinds.values())
    unseen = [kind for kind in kinds.values() if not kind["seen_in_training"]]
    plain = [row for row in rows if not row["reworded"]]
    return {
        "calibration": asdict(calibration),
        "asked": asked,
        "abstained": sum(kind["abstained"] for kind in kinds.values()) / asked,
        "abstained_of_unseen_kinds": sum(kind["abstained"] for kind in unseen)
        / sum(kind["asked"] for kind in unseen),
        "in_domain_lost": sum(row["abstained"] for row in plain) / len(plain),
        "expected_calibration_error": expected_error(confidence, right),
        "kinds": kinds,
        "in_domain": rows,
        "reliability": _reliability(confidence, right),
    }


def out_of_domain_table(report: dict[str, Any]) -> Table:
    """The same, to be read."""
    table = Table(
        title=f"not sure: {report['abstained']:.1%} of {report['asked']} from elsewhere, "
        f"{report['in_domain_lost']:.1%} of the split's; ECE {report['expected_calibration_error']:.3f}"
    )
    table.add_column("asked about")
    table.add_column("questions", justify="right")
    table.add_column("not sure", justify="right")
    for name, kind in report["kinds"].items():
        table.add_row(name, str(kind["asked"]), f"{kind['share']:.1%}")
    table.add_section()
    for row in report["in_domain"]:
        name = f"the split, {row['snr_db']:g} dB{', reworded' if row['reworded'] else ''}"
        table.add_row(name, str(row["questions"]), f"{row['abstained']:.1%}")
    return table


def _reliability(confidence: Any, right: Any) -> list[dict[str, float]]:
    """Accuracy of answers of like confidence, in bins of equal numbers."""
    order = np.argsort(confidence, kind="stable")
    return [
        {"confidence": float(confidence[part].mean()), "accuracy": float(right[part].mean())}
        for part in np.array_split(order, _BINS)
        if len(part)
    ]
