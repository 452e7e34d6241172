"""Analog and semantic digital tokens over block fading: by mean SNR, and by channel uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edge_server.study.plots.style import COLOURS, MARKERS, figure


def draw(report: Mapping[str, Any]) -> Figure:
    """The figure.

    Args:
        report: what ``edge-server study semantic`` wrote.
    """
    fading = [p for p in report["points"] if (p["channel"], p["spread"]) == ("rayleigh", "fresh")]
    widest = max(point["budget"] for point in fading)
    made, (by_snr, by_uses) = figure(columns=2)
    over_snr = sorted((p for p in fading if p["budget"] == widest), key=lambda point: float(point["snr_db"]))
    at_zero = sorted((p for p in fading if p["snr_db"] == 0.0), key=lambda point: int(point["budget"]))
    _lines(by_snr, over_snr, [[point["snr_db"]] * len(point["rows"]) for point in over_snr])
    _lines(by_uses, at_zero, [[row["uses"] for row in point["rows"]] for point in at_zero])
    by_snr.set(title=f"{widest} channel uses at most", xlabel="mean SNR, dB", ylabel="right")
    by_uses.set(title="0 dB", xlabel="channel uses, mean", ylabel="right")
    by_uses.set_xscale("log", base=2)
    for panel in (by_snr, by_uses):
        panel.axhline(report["prior"], color="#777777", linestyle="--", label="prior")
    by_uses.legend(fontsize=7)
    return made


def _lines(panel: Axes, points: Sequence[Mapping[str, Any]], where: Sequence[Sequence[float]]) -> None:
    """A line per system; ``where``: of each point, where its rows stand."""
    systems = [row["system"] for row in points[0]["rows"]] if points else []
    for index, system in enumerate(systems):
        rows = [point["rows"][index] for point in points]
        panel.errorbar(
            [places[index] for places in where],
            [row["accuracy"] for row in rows],
            [
                [row["accuracy"] - row["interval"][0] for row in rows],
                [row["interval"][1] - row["accuracy"] for row in rows],
            ],
            color=COLOURS[index],
            marker=MARKERS[index],
            markersize=4,
            capsize=2,
            label=system,
        )
