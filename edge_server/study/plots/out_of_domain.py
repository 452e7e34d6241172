"""What the model is not sure of, by kind; and how far its confidence is to be believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from edge_server.study.plots.style import COLOURS, figure


def draw(report: Mapping[str, Any]) -> Figure:
    """The figure.

    Args:
        report: what ``edge-server evaluate --out-of-domain`` wrote.
    """
    made, (kinds, curve) = figure(columns=2)
    made.set_size_inches(9.0, 3.6)
    rows = {name: 100 * kind["share"] for name, kind in report["kinds"].items()}
    rows["held-out questions"] = 100 * report["in_domain_lost"]
    bars = kinds.barh(list(rows), list(rows.values()), color=[COLOURS[0]] * (len(rows) - 1) + [COLOURS[1]])
    kinds.bar_label(bars, fmt="%.0f", padding=3)
    kinds.invert_yaxis()
    kinds.set(xlabel="not sure, %", xlim=(0, 112))
    kinds.grid(visible=False, axis="y")
    found = report["reliability"]
    curve.plot([0, 1], [0, 1], color="#999999", linewidth=1)
    curve.plot(
        [row["confidence"] for row in found], [row["accuracy"] for row in found], "o-", color=COLOURS[0]
    )
    curve.set(xlabel="confidence", ylabel="share that is right", xlim=(0, 1.02), ylim=(0, 1.02))
    return made
