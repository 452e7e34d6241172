"""What attackers find in tokens over their number, before and after the channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from edge_server.study.plots.style import COLOURS, MARKERS, figure


def draw(report: Mapping[str, Any]) -> Figure:
    """The figure.

    Args:
        report: what ``edge-server study inversion`` wrote.
    """
    slots = list(dict.fromkeys(row["slot"] for row in report["rows"]))
    made, panels = figure(columns=len(slots))
    for panel, slot in zip(panels, slots, strict=True):
        for bundle, line in ((True, "-"), (False, ":")):
            for index, snr_db in enumerate(report["plan"]["snrs_db"]):
                rows = [
                    row
                    for row in report["rows"]
                    if (row["slot"], row["snr_db"], row["bundle"]) == (slot, snr_db, bundle)
                ]
                told = "as sent" if snr_db is None else f"{snr_db:g} dB"
                panel.plot(
                    [row["length"] for row in rows],
                    [row["over_prior"] for row in rows],
                    line,
                    color=COLOURS[index],
                    marker=MARKERS[index],
                    markersize=4,
                    label=told if bundle else None,
                )
        hidden = [
            row["over_prior"]
            for row in report["rotations"]
            if row["slot"] == slot and row["known_clips"] is None
        ]
        for value in hidden:
            panel.plot([report["plan"]["usual"]], [value], "k_", markersize=10)
        panel.set_xscale("log", base=2)
        panel.set(
            title=f"{slot} (solid: with the bundle)",
            xlabel="tokens",
            ylabel="attributes right, over the prior",
            ylim=(None, 1),
        )
    panels[0].legend(fontsize=7)
    return made
