"""The section of the page on estimated gains: refined by the tokens, or trained for."""

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
            f"Rayleigh block fading, {plan['test_clips']} test clips, {len(plan['channel_seeds'])} seeds of "
            "the channel, one of training. *Refined*: as a server does, the likeliest gain given what the "
            "model's tokens are like (decision 0046), without training; the prior was fitted to training "
            "clips of the same world, other worlds were not asked about.",
            table(
                ("trained", "gains when asked", *(f"{snr:g} dB" for snr in plan["snrs_db"])),
                [(*key, *found) for key, found in lines.items()],
            ),
        ]
    )
