"""The section of the page on what tokens give away."""

from __future__ import annotations

from typing import Any

from edge_server.study.report.markdown import percent, points, table
from edge_server.study.report.sections import Found


def given_away(files: Found) -> str:
    """Attributes over the prior by length, SNR and what an attacker has; with rotations; cost in answers."""
    report = files["inversion"]
    plan = report["plan"]
    lengths = plan["lengths"]
    by_line: dict[tuple[Any, ...], list[str]] = {}
    for row in report["rows"]:
        told = "as sent" if row["snr_db"] is None else f"{row['snr_db']:g} dB"
        has = f"bundle: {plan['made']} clips" if row["bundle"] else f"{plan['overheard']} known clips"
        by_line.setdefault((row["slot"], told, has), []).append(points(row["over_prior"]))
    turned = [
        (
            row["slot"],
            row["rotation"],
            "none" if row["known_clips"] is None else row["known_clips"],
            points(row["over_prior"]),
        )
        for row in report["rotations"]
    ]
    answers = [
        (row["length"], row["fading"], "yes" if row["rotated"] else "no", percent(row["accuracy"]))
        for row in report["answers"]
    ]
    return "\n\n".join(
        [
            "![What tokens give away](inversion.png)",
            f"`{report['command']}`: an attacker (one hidden layer, trained for it) decodes attributes "
            f"of the scene from a codeword of `{report['model']}`: which instrument is where and moves, "
            "which is heard when, whether somebody speaks. Shares of attributes right above the most "
            f"frequent answer, mean over attributes, {plan['asked']} clips.",
            table(
                ("slot", "seen", "attacker has", *(f"{n} tokens" for n in lengths)),
                [(*key, *found) for key, found in by_line.items()],
            ),
            f"Rotated with a key that the attacker lacks, {plan['usual']} tokens, as sent, with the bundle:",
            table(("slot", "rotated", "clips of the session known", "over the prior"), turned),
            f"Questions answered at {plan['answer_snr_db']:g} dB:",
            table(("tokens", "channel", "rotated", "right"), answers),
        ]
    )
