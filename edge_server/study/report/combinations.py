"""The section of the page on combinations that training never showed."""

from __future__ import annotations

from edge_server.study.combinations import accuracies
from edge_server.study.report.markdown import percent_spread, table
from edge_server.study.report.sections import Found


def unseen(files: Found) -> str:
    """Accuracy on clips with and without a held-out combination, of links that met it or did not."""
    report = files["combinations"]
    rows, scale = report["rows"], report["scale"]
    snrs = list(dict.fromkeys(row["snr_db"] for row in rows))
    keys = dict.fromkeys(
        (row["trained_on"], row["asked_about"], row["clips"], row["questions"]) for row in rows
    )
    told, seeds = scale["told"], len(scale["seeds"])
    return "\n\n".join(
        [
            f"`{report['command']}`: of {report['combinations']} combinations of instrument, place and "
            f"motion, {len(report['held_out'])} are left out of training. Links of "
            f"{report['train_clips']} clips each, two-stage ({told['alignment_steps']} steps with dictation, "
            f"{told['rounds']} rounds, {seeds} seed{'' if seeds == 1 else 's'}), asked about test "
            "clips that show such a combination, and about the others. What it costs never to have met one "
            "is the difference between the links, on the same clips: the others may be easier or harder. "
            "Encoders and foundation are the shipped model's and met all combinations in pretraining; the "
            "shipped link met them too, so nothing is said of it.",
            table(
                ("trained on", "asked about", "clips", "questions", *(f"{snr:g} dB" for snr in snrs)),
                [(*key, *map(percent_spread, accuracies(rows, *key[:2]))) for key in keys],
            ),
        ]
    )
