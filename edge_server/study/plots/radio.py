"""Accuracy over tapped delay lines, and over what else spoils a link."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edge_server.study.plots.style import COLOURS, MARKERS, figure


def draw(report: Mapping[str, Any]) -> Figure:
    """The figure.

    Args:
        report: what ``edge-server study radio`` wrote.
    """
    tuned = report.get("tuned", {})
    made, (tapped, aged, shared, *trained) = figure(columns=4 if tuned else 3)
    rows = report["answers"]
    _lines(tapped, [row for row in rows if row["part"] == "tapped"], "snr_db", ("model", "speed_kmh", "csi"))
    tapped.set(xlabel="SNR, dB", ylabel="right")
    _lines(aged, [row for row in rows if row["part"] == "aged"], "csi_age_ms", ("speed_kmh",))
    aged.set(xlabel="age of estimates, ms", ylabel="right, TDL-C, 10 dB")
    _lines(shared, [row for row in rows if row["part"] == "shared"], "sir_db", ("model",))
    shared.set(xlabel="SIR, dB", ylabel="right, SNR 20 dB")
    for panel in trained:
        found = [
            {**row, "trained": name}
            for name, found in tuned.items()
            for row in found
            if row["model"] != "awgn" and row["csi"] == "perfect"
        ]
        _lines(panel, found, "snr_db", ("trained", "speed_kmh"))
        panel.set(xlabel="SNR, dB", ylabel="right, after more training")
    return made


def _lines(panel: Axes, rows: Sequence[Mapping[str, Any]], over: str, by: tuple[str, ...]) -> None:
    kinds = list(dict.fromkeys(tuple(row[name] for name in by) for row in rows))
    for index, kind in enumerate(kinds):
        of_kind = [row for row in rows if tuple(row[name] for name in by) == kind]
        panel.plot(
            [row[over] for row in of_kind],
            [row["accuracy"] for row in of_kind],
            color=COLOURS[index],
            marker=MARKERS[index],
            label=", ".join(f"{each:g} km/h" if isinstance(each, float) else str(each) for each in kind),
        )
    panel.legend(fontsize=7)
