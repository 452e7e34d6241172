"""The section of the page on alignments at equal computation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_server.study.report.markdown import percent, percent_spread, points, spread_of, table
from edge_server.study.report.sections import Found

#: Of accuracies over SNR, below which a system looks at no token.
_NOTHING = 0.002
_SEES = {"nothing": "nothing", "captions": "clip and caption", "labels": "**labels of the scene**"}


def without_labels(files: Found) -> str:
    """What pairs of clip and free caption are worth, every system at the same processor time."""
    report = files["alignment"]
    plan = report["plan"]
    rows = [
        (
            row["arm"],
            row["how"],
            _SEES[row["sees"]],
            percent_spread(row["accuracy"]),
            *(percent(found["mean"]) for found in row["by_snr_db"].values()),
            f"{row['stage_1']['steps']} + {row['stage_2']['rounds']}",
            f"{row['stage_1']['clips']} + {row['stage_2']['clips']}",
            row["stage_2"]["questions_at_most"],
            f"{spread_of(row['stage_1_cpu_s'], 0)} of {spread_of(row['cpu_s'], 0)}",
            _rates(row),
        )
        for row in report["rows"]
    ]
    head = (
        "system",
        "how it is aligned",
        "stage 1 sees",
        "mean over SNR",
        *(f"{float(snr_db):g} dB" for snr_db in report["rows"][0]["by_snr_db"]),
        "steps",
        "clips",
        "questions",
        "CPU-seconds, stage 1 of both",
        "rates",
    )
    return "\n\n".join(
        [
            "![Accuracy against processor time and against SNR](alignment.png)",
            f"`{report['command']}`. Every system has about {plan['budget_s']:g} CPU-seconds (one thread) "
            "for both stages together, no alignment at least as many as any other; a stage 1 gets "
            f"{plan['stage_1_share']:.0%} of them. All have the same clips with one free caption each, and "
            f"questions drawn alike. AWGN, {plan['token_length']} tokens, {plan['test_clips']} test clips.",
            table(head, rows),
            _read(report),
            _tuned(report),
            _compared(report),
            _missing(report),
        ]
    )


def claim(files: Found) -> str:
    """What it does not show."""
    report = files.get("alignment")
    if report is None:
        return "No alignment was compared at equal clips, questions and computation."
    seeds = {len(row["seeds"]) for row in report["rows"]}
    told = (
        f"At equal CPU-seconds, clips and questions (O): {min(seeds)}"
        f"{'' if len(seeds) == 1 else f' to {max(seeds)}'} training seed{'' if seeds == {1} else 's'}, one "
        f"budget ({report['plan']['budget_s']:g} CPU-seconds), rates tuned at "
        f"{report['plan']['tuning_share']:.0%} of the steps."
    )
    return (
        f"{told} The captions are free in wording, but a grammar writes them, about this world; the "
        "foundation was taught on text alone to read them and to take notes of them, which a published one "
        "could be asked to do. Nobody tried it on recorded clips."
    )


def _rates(row: Mapping[str, Any]) -> str:
    found = [row["rates"][stage] for stage in ("alignment", "finetune") if row["rates"][stage] is not None]
    return " + ".join(f"{each['rate']:g}{'' if each['interior'] else ' (at the edge)'}" for each in found)


def _read(report: Mapping[str, Any]) -> str:
    reading = report["reading"]
    notes = reading["notes"]
    return (
        f"The foundation, which all share, first read {reading['scenes']} scenes in free words "
        f"({reading['cpu_s']:.0f} CPU-seconds, no clip; not counted, as the rest of pretraining is not). It "
        f"answers {percent(reading['answered_from_captions'])} of the validation questions from free "
        "captions alone: captions leave facts out. Its notes of "
        f"{notes['clips']} captions took {notes['cpu_s']:.0f} "
        f"CPU-seconds, which are counted; {percent(notes['words_right'])} of their words are right, and "
        f"{percent(notes['kept_words_right'])} of the {percent(notes['words_kept'])} that it was sure of."
    )


def _tuned(report: Mapping[str, Any]) -> str:
    edges = sorted(
        {
            row["arm"]
            for row in report["rows"]
            for each in row["rates"].values()
            if each is not None and not each["interior"]
        }
    )
    told = (
        f"{len(report['tuning'])} trials of rates, in `alignment.json`, with seed "
        f"{report['plan']['tuning_seed']}: stage 1 by its own loss, stage 2 by accuracy on the validation "
        f"split; at least {len(report['plan']['rates'])} values for each stage of each system. A trial has "
        f"{report['plan']['tuning_share']:.0%} of the steps: where trials differ by little, chance chose."
    )
    return told + (f" The best is the last that was tried for: {', '.join(edges)}." if edges else "")


def _missing(report: Mapping[str, Any]) -> str:
    missing = report["not_trained"]
    told = f"**Not trained**: {', '.join(missing)}." if missing else "Every system was trained."
    broken = []
    for row in report["rows"]:
        found = [each["mean"] for each in row["by_snr_db"].values()]
        if len(found) > 1 and max(found) - min(found) < _NOTHING:
            broken.append(row["arm"])
    if broken:
        told += (
            f" **Says nothing**: {', '.join(broken)}. It answers alike at every SNR, so it looks at no "
            "token: a rate that was chosen in short trials is too high for the whole run. Its row does not "
            "speak against its loss."
        )
    return told


def _compared(report: Mapping[str, Any]) -> str:
    found = report["compared"]
    if found is None:
        return "Not compared yet: a system is missing."
    beside = found["minus_captions_beside"]
    return (
        f"Best on the validation split of those that see captions alone: **{report['chosen']}**. Minus no "
        f"alignment: {points(found['minus_none']['mean'])}"
        + (f"; minus captions in stage 2: {points(beside['mean'])}" if beside else "")
        + f"; share of dictation's accuracy: {found['of_dictation']['mean']:.3f}."
    )
