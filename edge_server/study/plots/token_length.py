"""Figure C: accuracy against airtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from edge_server.study.plots.style import COLOURS, MARKERS, figure


def draw(data: Mapping[str, Any]) -> Figure:
    """A panel per SNR; each curve runs over token lengths, the grey line is the front."""
    fronts = data["fronts"]
    made, panels = figure(columns=len(fronts))
    for panel, front in zip(panels, fronts, strict=True):
        panel.set_title(f"AWGN, {front['snr_db']:g} dB")
        curves = [curve for curve in data["curves"] if curve["snr_db"] == front["snr_db"]]
        for index, curve in enumerate(curves):
            points = curve["points"]
            panel.errorbar(
                [1e6 * point["airtime_s"] for point in points],
                [100 * point["accuracy"]["mean"] for point in points],
                yerr=[100 * point["accuracy"]["std"] for point in points],
                color=COLOURS[index % len(COLOURS)],
                marker=MARKERS[index % len(MARKERS)],
                markersize=3,
                linewidth=1,
                capsize=2,
                label=f"{curve['selection']}, {curve['channel_dim']} reals a token",
            )
        panel.step(
            [1e6 * point["airtime_s"] for point in front["points"]],
            [100 * point["accuracy"] for point in front["points"]],
            where="post",
            color="0.75",
            linewidth=4,
            zorder=0,
            label="front",
        )
        panel.set_xscale("log")
        panel.set_xlabel(f"airtime at {data['bandwidth_hz'] / 1e6:g} MHz [µs]")
        panel.set_ylabel("accuracy [%]")
    panels[0].legend(fontsize=6)
    return made
