"""What the progressive uplink sends over SNR, and what that costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from edge_server.study.plots.style import COLOURS, MARKERS, figure


def draw(report: Mapping[str, Any]) -> Figure:
    """The figure.

    Args:
        report: what ``edge-server study progressive`` wrote.
    """
    made, (tokens, accuracy) = figure(columns=2)
    for index, channel in enumerate(report["mean"]):
        points = [point for point in report["points"] if point["channel"] == channel]
        snrs_db = [point["snr_db"] for point in points]
        colour, marker = COLOURS[index], MARKERS[index]
        for panel, key in ((tokens, "tokens"), (accuracy, "accuracy")):
            panel.errorbar(
                snrs_db,
                [point[key]["mean"] for point in points],
                [point[key]["std"] for point in points],
                color=colour,
                marker=marker,
                label=f"{channel}, in rounds",
                capsize=2,
            )
        for panel, values, told in (
            (tokens, [point["shortest"] for point in points], "shortest"),
            (accuracy, [point["full_accuracy"]["mean"] for point in points], str(report["full"])),
        ):
            panel.plot(snrs_db, values, color=colour, linestyle=":", label=f"{channel}, {told} at once")
    tokens.axhline(report["full"], color="#777777", linestyle="--", label=f"{report['full']} at once")
    tokens.set(xlabel="SNR, dB", ylabel="tokens per modality, mean", ylim=(0, None))
    accuracy.set(xlabel="SNR, dB", ylabel="right")
    tokens.legend(fontsize=7)
    accuracy.legend(fontsize=7)
    return made
