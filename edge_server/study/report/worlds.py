"""The section of the page on worlds that the shipped model was not trained in."""

from __future__ import annotations

from edge_server.study.report.markdown import percent, table
from edge_server.study.report.sections import Found


def elsewhere(files: Found) -> str:
    """Accuracy with other artwork and another soundfont, by type of question."""
    report = files["worlds"]
    rows = report["rows"]
    kinds = list(rows[0]["per_type"])
    told = [
        (
            row["world"],
            row["artwork"],
            row["soundfont"],
            f"{row['snr_db']:g} dB",
            percent(row["accuracy"]),
            *(percent(row["per_type"][kind]["accuracy"]) for kind in kinds),
        )
        for row in rows
    ]
    intro = (
        f"`edge-server study worlds`: the same {rows[0]['questions']} questions about the same scenes of the "
        "test split, drawn with other artwork, or played from another soundfont, that the model never met in "
        f"training (`{report['model']}`, {report['token_length']} tokens, AWGN)."
    )
    return intro + "\n\n" + table(("world", "artwork", "soundfont", "SNR", "right", *kinds), told)
