"""The ablation as bars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from edge_server.study.plots.style import COLOURS, figure


def draw(data: Mapping[str, Any]) -> Figure:
    """Mean accuracy over SNRs, a bar per rung and per alternative."""
    made, (panel,) = figure()
    made.set_size_inches(8, 4)
    rows = [(row, COLOURS[0]) for row in data["ladder"]] + [(row, COLOURS[1]) for row in data["beside"]]
    for position, (row, colour) in enumerate(rows):
        accuracy = row["accuracy"]
        panel.barh(position, 100 * accuracy["mean"], xerr=100 * accuracy["std"], color=colour, capsize=2)
    panel.set_yticks(range(len(rows)), [f"{row['system']}: {row['change']}" for row, _ in rows], fontsize=7)
    panel.invert_yaxis()
    panel.set_xlabel("accuracy, mean over SNRs [%]")
    return made
