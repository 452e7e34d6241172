"""Sections of the page about the shipped model's other words, and about what it is not sure of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_server.data.soundstage.validation_wordings import LEARNED
from edge_server.study.report.markdown import percent, points, table
from edge_server.study.report.sections import Found


def wordings(files: Found) -> str:
    """What other words cost."""
    report = files["wordings"]
    asked = " and ".join(f"{number} {name}" for name, number in report["questions"].items())
    rows = [
        (row["wording"], percent(row["accuracy"]), points(row["lost"]), _quoted(row["example"]))
        for row in report["rows"]
    ]
    return "\n\n".join(
        [
            f"`{report['model']}`: {asked} questions, each in every wording, at {report['snr_db']:g} dB. "
            "Sentences, what stands around them and unknown synonyms are held out of training "
            "([`wordings.py`](../../edge_server/data/soundstage/wordings.py)). Lost on average: "
            f"{points(report['mean_lost'])}, at most {points(report['most_lost'])}.",
            "![What other words cost](wordings.png)",
            table(("wording", "right", "lost", "for example"), rows),
            *(_ways(files["wording_ways"]) if "wording_ways" in files else ()),
        ]
    )


def _ways(report: Mapping[str, Any]) -> list[str]:
    """What was tried against it: compared on validation, the chosen one judged on the test."""
    tried, chosen = report["validation"], report["chosen"]
    rows = [
        (
            f"**{row['way']}**" if (row["way"], row["share"]) == _named(chosen) else row["way"],
            f"{row['share']:g}" if "steps" in row else "",
            row.get("steps", ""),
            f"{row['cpu_s']:.0f}" if "cpu_s" in row else "",
            percent(row["accuracy"]),
            points(row["mean_lost"]),
            f"{points(row['most_lost'])} ({max(_unseen(row), key=_unseen(row).__getitem__)})",
        )
        for row in tried
    ]
    told = [
        f"**Tried against it** ([`steadying.py`](../../edge_server/training/steadying.py)): the LoRA of "
        f"`{report['model']}` learned on from {report['clips']} clips; all else stayed. Compared "
        f"by {tried[0]['asked']} questions of the validation split in {len(_unseen(tried[0]))} wordings "
        "([`validation_wordings.py`](../../edge_server/data/soundstage/validation_wordings.py)) that are "
        "neither learned from nor held out. The further words and those of validation were written by one "
        "hand, which knew of the held-out ones their names, their figures, and the example of each in the "
        "table above. A share below 1 lies between the shipped weights and the learned ones, one above goes "
        "on past them. In bold: what answers its worst wording best, of those that answer plain questions as "
        "well.",
        table(("way", "share", "steps", "CPU-seconds", "plain", "lost, mean", "lost, most"), rows),
    ]
    told += (
        _judged(report["test"])
        if "test" in report
        else [
            "None was asked about the test split: held-out wordings stay unseen for a way that is worth it."
        ]
    )
    return told


def _judged(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The chosen way and the model as it shipped, about the test split, as far as it was asked."""
    steadied = rows[-1]
    lines: list[tuple[str, ...]] = [
        (f"plain, {snr_db} dB", *(percent(row["plain"][snr_db]) for row in rows))
        for snr_db in steadied.get("plain", ())
    ]
    lines += [(f"lost: {name}", *(points(row["lost"][name]) for row in rows)) for name in steadied["lost"]]
    lines += [
        ("lost, mean", *(points(row["mean_lost"]) for row in rows)),
        ("lost, most", *(points(row["most_lost"]) for row in rows)),
    ]
    for name, what in (
        ("abstained", "not sure of what it cannot know"),
        ("in_domain_lost", "not sure of what it can"),
        ("expected_calibration_error", "expected calibration error"),
    ):
        if name in steadied:
            lines.append((what, *(percent(row[name]) for row in rows)))
    return [
        "The chosen one, asked once about the test split, in the held-out wordings:",
        table(("", "as shipped", f"{steadied['way']}, share {steadied['share']:g}"), lines),
    ]


def _named(chosen: Mapping[str, Any]) -> tuple[str, float]:
    return chosen["way"], chosen["share"]


def _unseen(row: Mapping[str, Any]) -> Mapping[str, float]:
    """What each wording costs that training does not draw."""
    return {name: lost for name, lost in row["lost"].items() if name != LEARNED}


def out_of_domain(files: Found) -> str:
    """What the model says that it is not sure of."""
    report = files["out_of_domain"]
    error = report["expected_calibration_error"]
    shares = [percent(report[name]) for name in ("abstained", "abstained_of_unseen_kinds", "in_domain_lost")]
    kinds = [
        (
            name + (" (training knows this kind)" if kind["seen_in_training"] else ""),
            kind["asked"],
            percent(kind["share"]),
            _quoted(kind["example"]),
        )
        for name, kind in report["kinds"].items()
    ]
    own = [
        (
            f"{row['snr_db']:g} dB{', reworded' if row['reworded'] else ''}",
            percent(row["accuracy"]),
            percent(row["abstained"]),
            percent(row["accuracy_of_the_others"]),
            f"{row['expected_calibration_error']:.3f}",
        )
        for row in report["in_domain"]
    ]
    return "\n\n".join(
        [
            f"`{report['model']}` is not sure of {shares[0]} of {report['asked']} questions that it cannot "
            f"know ({shares[1]} of kinds that training never showed), and of {shares[2]} of held-out ones "
            f"that it can; expected calibration error over all SNRs: {error:.3f}.",
            "![What the model is not sure of](out_of_domain.png)",
            table(("asked about", "questions", "not sure", "for example"), kinds),
            table(
                ("held-out questions", "right", "not sure", "right of the others", "calibration error"), own
            ),
        ]
    )


def _quoted(text: str) -> str:
    return "`" + text.replace("\n", " ").replace("|", "/").replace("`", "'") + "`"
