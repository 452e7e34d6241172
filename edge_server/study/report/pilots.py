"""The section of the page on training with estimated gains."""

from __future__ import annotations

from edge_server.study.report.markdown import percent, table
from edge_server.study.report.sections import Found


def trained_for(files: Found) -> str:
    """The shipped model, and what becomes of it when stage 2 goes on with known and with estimated gains."""
    report = files["pilots"]
    plan = report["plan"]
    lines: dict[tuple[str, str], list[str]] = {}
    for row in report["rows"]:
        lines.setdefault((row["trained"], row["csi"]), []).append(percent(row["accuracy"]))
    return "\n\n".join(
        [
            f"`{report['command']}`: stage 2 of `{report['model']}` goes on for {plan['steps']} steps of "
            f"{plan['batch_size']} clips, with gains known or estimated from {plan['pilots']} pilots; "
            f"Rayleigh block fading, {plan['test_clips']} test clips, one seed.",
            table(
                ("trained", "gains when asked", *(f"{snr:g} dB" for snr in plan["snrs_db"])),
                [(*key, *found) for key, found in lines.items()],
            ),
        ]
    )
