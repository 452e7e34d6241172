"""Alignments at equal computation: accuracy over SNR, and over the processor time of both stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from edge_server.study.plots.style import COLOURS, MARKERS, figure


def draw(report: Mapping[str, Any]) -> Figure:
    """The figure.

    Args:
        report: what ``edge-server study alignment`` wrote.
    """
    made, (over_time, over_snr) = figure(columns=2)
    style: dict[str, dict[str, Any]] = {
        row["arm"]: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)], "markersize": 4}
        for i, row in enumerate(report["rows"])
    }
    for curve in report["curves"]:
        over_time.plot(
            [point["cpu_s"] for point in curve["points"]],
            [point["val_accuracy"] for point in curve["points"]],
            label=curve["arm"],
            **style[curve["arm"]],
        )
    for row in report["rows"]:
        snrs_db = [float(snr_db) for snr_db in row["by_snr_db"]]
        found = list(row["by_snr_db"].values())
        over_snr.errorbar(
            snrs_db,
            [each["mean"] for each in found],
            [each["std"] for each in found],
            label=row["arm"],
            capsize=2,
            **style[row["arm"]],
        )
    over_time.set(xlabel="CPU-seconds of both stages", ylabel="right, validation", xlim=(0, None))
    over_snr.set(xlabel="SNR, dB", ylabel="right, test")
    over_snr.legend(fontsize=6)
    return made
