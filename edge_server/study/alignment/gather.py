"""What the comparison of alignments found, as one JSON: budgets, accuracies, promises that they settle."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge_server.study.alignment.arms import ARMS, AUXILIARY, CAPTION_ONLY, DICTATION, NONE
from edge_server.study.alignment.compare import COSTS, READING, TUNING, record_of
from edge_server.study.alignment.plan import Plan
from edge_server.study.figures.answers import paired_difference, spread

COMMAND = "edge-server study alignment"
MEASURES = (
    "edge_server/study/alignment",
    "edge_server/training/alignment.py",
    "edge_server/training/distillation.py",
    "edge_server/training/matching.py",
    "edge_server/training/notes.py",
    "edge_server/training/reading.py",
)
GAIN_POINTS, OF_DICTATION, RATIO = 13.7, 0.9, 0.5
LEAST_SEEDS = 3


def gather(plan: Plan, records: Path) -> dict[str, Any]:
    """Everything in a folder of records.

    Raises:
        OSError: costs, tuning or reading were not measured.
    """
    kept = {
        arm: {
            seed: json.loads(path.read_text())
            for seed in plan.seeds
            if (path := record_of(records, arm, seed)).exists()
        }
        for arm in ARMS
    }
    tuning = json.loads((records / TUNING).read_text())
    rows = [_row(arm, found, tuning) for arm, found in kept.items() if found]
    report = {
        "plan": asdict(plan),
        "reading": json.loads((records / READING).read_text()),
        "costs": json.loads((records / COSTS).read_text()),
        "rows": rows,
        "curves": [_curve(arm, found) for arm, found in kept.items() if found],
        "tuning": tuning,
        "chosen": chosen(rows),
        "not_trained": [arm for arm, found in kept.items() if not found],
    }
    report["compared"] = compared(report, kept) if report["chosen"] else None
    return report


def chosen(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Of systems that saw captions alone, the best on the validation split while rates were chosen."""
    able = [row for row in rows if row["arm"] in CAPTION_ONLY]
    best: str | None = max(able, key=lambda row: row["tuned_val_accuracy"])["arm"] if able else None
    return best


def compared(report: Mapping[str, Any], kept: Mapping[str, Mapping[int, Any]]) -> dict[str, Any] | None:
    """The chosen system beside none, captions in stage 2, and dictation; None where one is missing."""
    best = report["chosen"]
    beside_none, beside_dictation = (
        sorted(kept[best].keys() & kept[arm].keys()) for arm in (NONE, DICTATION)
    )
    if not (beside_none and beside_dictation):
        return None
    means = {
        arm: {seed: found["mean_accuracy"] for seed, found in by_seed.items()}
        for arm, by_seed in kept.items()
    }
    reached = [_reached(kept[best][seed], kept[NONE][seed]) for seed in beside_none]
    return {
        "commits": [kept[best][seed]["commit"] for seed in beside_none],
        "minus_none": spread(paired_difference(means[best], means[NONE])),
        "minus_captions_beside": spread(paired_difference(means[best], means[AUXILIARY]))
        if kept[best].keys() & kept[AUXILIARY].keys()
        else None,
        "of_dictation": spread([means[best][seed] / means[DICTATION][seed] for seed in beside_dictation]),
        "mean_cpu_s": {
            "minus_none": _mean_cpu_s(kept, (best, NONE), beside_none),
            "of_dictation": _mean_cpu_s(kept, (best, DICTATION), beside_dictation),
        },
        "cpu_s_to_reach_none": [each["cpu_s"] for each in reached],
        "steps_to_reach_none": [each["steps"] for each in reached],
        "none_cpu_s": [kept[NONE][seed]["cpu_s"] for seed in beside_none],
        "none_rounds": [kept[NONE][seed]["stage_2"]["rounds"] for seed in beside_none],
    }


def _mean_cpu_s(
    kept: Mapping[str, Mapping[int, Any]], arms: Sequence[str], seeds: Sequence[int]
) -> dict[str, float]:
    """Processor time of both stages of each system that is compared, the mean over seeds [s]."""
    return {arm: statistics.fmean(kept[arm][seed]["cpu_s"] for seed in seeds) for arm in arms}


def _reached(first: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, float | None]:
    """When a system first has on the validation split what another has at its end, stage 1 included."""
    target = other["on_the_way"][-1]["val_accuracy"]
    for look in first["on_the_way"]:
        if look["val_accuracy"] >= target:
            return {"cpu_s": look["cpu_s"], "steps": first["stage_1"]["steps"] + look["rounds"]}
    return {"cpu_s": None, "steps": None}


def _row(arm: str, found: Mapping[int, Any], tuning: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    one = next(iter(found.values()))
    tried = [row for row in tuning if row["arm"] == arm]
    return {
        "arm": arm,
        "how": ARMS[arm].how,
        "sees": ARMS[arm].sees,
        "seeds": list(found),
        "rates": one["tuned"],
        "tuned_val_accuracy": max(row["val_accuracy"] for row in tried if "val_accuracy" in row),
        "trials": len(tried),
        "stage_1": one["stage_1"],
        "stage_2": one["stage_2"],
        "cpu_s": spread([each["cpu_s"] for each in found.values()]),
        "stage_1_cpu_s": spread([each["stage_1"]["cpu_s"] for each in found.values()]),
        "accuracy": spread([each["mean_accuracy"] for each in found.values()]),
        "by_snr_db": {
            snr_db: spread([each["answers"][snr_db]["accuracy"] for each in found.values()])
            for snr_db in one["answers"]
        },
    }


def _curve(arm: str, found: Mapping[int, Any]) -> dict[str, Any]:
    """Accuracy on the validation split against processor time, the mean over seeds.

    Seeds have not always the same rounds; they are looked at after the same shares of them.
    """
    looks_of = zip(*(each["on_the_way"] for each in found.values()), strict=True)
    return {
        "arm": arm,
        "points": [
            {
                name: statistics.fmean(look[name] for look in looks)
                for name in ("cpu_s", "rounds", "val_accuracy")
            }
            for looks in looks_of
        ],
    }


def _judged(kept: bool, seeds: int) -> dict[str, Any]:
    """A verdict: what fewer seeds than were asked speak for is not settled."""
    if seeds >= LEAST_SEEDS:
        return {"met": kept}
    return {"met": None if kept else False, "why": f"{LEAST_SEEDS} training seeds were asked"}


def kept_promises(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The promises that this settles, each as old as the first record of the chosen system."""
    found = report["compared"]
    if found is None:
        return []
    return [{**promise, "commit": found["commits"][0]} for promise in _promises(report, found)]


def _promises(report: Mapping[str, Any], found: Mapping[str, Any]) -> list[dict[str, Any]]:
    gain, share = 100 * found["minus_none"]["mean"], found["of_dictation"]["mean"]
    seeds = len(found["minus_none"]["values"])
    shared = len(found["of_dictation"]["values"])
    promises: list[dict[str, Any]] = [
        {
            "what": "Caption-only alignment minus none, equal clips, questions and CPU-seconds of both "
            "stages",
            "measured": f"{gain:+.1f} points ({_sides(found, 'minus_none')}, {seeds} seeds)",
            **_judged(gain >= GAIN_POINTS, seeds),
        },
        {
            "what": "Caption-only alignment over dictation, accuracy",
            "measured": f"{share:.3f} ({_sides(found, 'of_dictation')}, {shared} seeds)",
            **_judged(share >= OF_DICTATION, shared),
        },
    ]
    what = "Rounds at equal accuracy, caption-only alignment with its stage 1 over none"
    if None in found["cpu_s_to_reach_none"]:
        missed = found["cpu_s_to_reach_none"].count(None)
        measured = f"not reached with {missed} of {seeds} seeds"
        return [*promises, {"what": what, "measured": measured, **_judged(False, seeds)}]
    seconds = sum(found["cpu_s_to_reach_none"]) / sum(found["none_cpu_s"])
    steps = sum(found["steps_to_reach_none"]) / sum(found["none_rounds"])
    return [
        *promises,
        {
            "what": what,
            "measured": f"{seconds:.2f} in CPU-seconds, {steps:.2f} in steps of both stages ({seeds} seeds)",
            **_judged(seconds <= RATIO and steps <= RATIO, seeds),
        },
    ]


def _sides(found: Mapping[str, Any], compared: str) -> str:
    """Whom a promise compares, and what each took in the mean."""
    return ", ".join(f"{arm} {cpu_s:.0f} CPU-s" for arm, cpu_s in found["mean_cpu_s"][compared].items())
