"""The section of the page on combinations that training never showed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_server.study.report.markdown import percent, table

Found = Mapping[str, Any]
"""JSON files by name, without their ending."""


def unseen(files: Found) -> str:
    """Accuracy on clips with and without a held-out combination, of links that met it or did not."""
    report = files["combinations"]
    snrs = list(dict.fromkeys(row["snr_db"] for row in report["rows"]))
    lines: dict[tuple[str, str, int, int], list[str]] = {}
    for row in report["rows"]:
        key = (row["trained_on"], row["asked_about"], row["clips"], row["questions"])
        lines.setdefault(key, []).append(percent(row["accuracy"]))
    steps = report["told"]
    return "\n\n".join(
        [
            f"`{report['command']}`: of 60 combinations of instrument, place and motion, "
            f"{len(report['held_out'])} are left out of training. Links of {report['train_clips']} clips "
            f"each, two-stage ({steps['alignment_steps']} steps with dictation, {steps['rounds']} rounds, "
            "one seed), asked about test clips that show such a combination, and about the others. Encoders "
            "and foundation are the shipped model's and met all combinations in pretraining; the shipped "
            "link met them too, so nothing is said of it.",
            table(
                ("trained on", "asked about", "clips", "questions", *(f"{snr:g} dB" for snr in snrs)),
                [(*key, *found) for key, found in lines.items()],
            ),
        ]
    )
