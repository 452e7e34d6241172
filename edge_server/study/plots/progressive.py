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
    made, (uses, accuracy) = figure(columns=2)
    a_token = report["full_uses"] / report["full"]
    for index, channel in enumerate(report["mean"]):
        points = [point for point in report["points"] if point["channel"] == channel]
        snrs_db = [point["snr_db"] for point in points]
        colour, marker = COLOURS[index], MARKERS[index]
        look: dict[str, Any] = {"color": colour, "marker": marker, "label": f"{channel}, in rounds"}
        uses.plot(
            snrs_db,
            [point.get("channel_uses", point.get("tokens", {}).get("mean")) for point in points],
            **look,
        )
        accuracy.errorbar(
            snrs_db,
            [point["accuracy"]["mean"] for point in points],
            [point["accuracy"]["std"] for point in points],
            capsize=2,
            **look,
        )
        for panel, values, told in (
            (uses, [point["shortest"] * a_token for point in points], "shortest"),
            (accuracy, [point["full_accuracy"]["mean"] for point in points], str(report["full"])),
        ):
            panel.plot(snrs_db, values, color=colour, linestyle=":", label=f"{channel}, {told} at once")
    uses.axhline(report["full_uses"], color="#777777", linestyle="--", label=f"{report['full']} at once")
    uses.set(xlabel="SNR, dB", ylabel="channel uses, mean", ylim=(0, None))
    accuracy.set(xlabel="SNR, dB", ylabel="right")
    uses.legend(fontsize=7)
    accuracy.legend(fontsize=7)
    return made
