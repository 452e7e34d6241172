"""What other words cost: accuracy in every held-out wording."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from edge_server.study.plots.style import COLOURS, figure


def draw(report: Mapping[str, Any]) -> Figure:
    """The figure.

    Args:
        report: what ``edge-server evaluate --wordings`` wrote.
    """
    made, (panel,) = figure()
    made.set_size_inches(7.0, 0.3 * len(report["rows"]) + 1.0)
    names = [row["wording"] for row in report["rows"]]
    plain = 100 * report["rows"][0]["accuracy"]
    bars = panel.barh(names, [100 * row["accuracy"] for row in report["rows"]], color=COLOURS[0])
    panel.bar_label(bars, fmt="%.1f", padding=3)
    panel.axvline(plain, color=COLOURS[1], linewidth=1)
    panel.invert_yaxis()
    panel.set(xlabel="right, %", xlim=(0, 108))
    panel.grid(visible=False, axis="y")
    return made
