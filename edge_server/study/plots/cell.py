"""Figure H: what sharing a cell out jointly gains, over bandwidth, power and users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from edge_server.study.cell.compare import OPTIMUM
from edge_server.study.plots.style import COLOURS, MARKERS, figure

#: Sweep: what varies, how it is told, how it is drawn.
_SWEEPS = {
    "bandwidth": ("bandwidth_hz", "bandwidth of the cell, Hz (24 users)", "log"),
    "power": ("power_dbm", "power of a device, dBm (24 users, 1 MHz)", "linear"),
    "users": ("users", "users (1 MHz)", "log"),
}


def draw(report: Mapping[str, Any]) -> Figure:
    """The figure.

    Args:
        report: what ``edge-server study cell`` wrote.
    """
    made, panels = figure(columns=3)
    for panel, (sweep, (key, label, scale)) in zip(panels, _SWEEPS.items(), strict=True):
        points = sorted((p for p in report["points"] if p["sweep"] == sweep), key=lambda point: point[key])
        told = [policy for policy in points[0]["policies"] if policy != OPTIMUM] if points else []
        for index, policy in enumerate(told):
            costs = [point["policies"][policy]["cost"] for point in points]
            panel.errorbar(
                [point[key] for point in points],
                [cost["mean"] for cost in costs],
                [cost["std"] for cost in costs],
                marker=MARKERS[index],
                color=COLOURS[index],
                label=policy.replace("_", " "),
                capsize=2,
            )
        panel.set(xlabel=label, xscale=scale, yscale="log", ylabel="cost per user, by measured loss")
        panel.set_xticks([point[key] for point in points], [f"{point[key]:g}" for point in points])
        panel.minorticks_off()
        panel.plot(
            [point[key] for point in points],
            [point["policies"][OPTIMUM]["cost"]["mean"] for point in points],
            color="#777777",
            linestyle=":",
            label="optimum",
        )
    panels[0].legend(fontsize=7)
    return made
