"""Sections of the page about the shipped model's other words, and about what it is not sure of."""

from __future__ import annotations

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
        ]
    )


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
