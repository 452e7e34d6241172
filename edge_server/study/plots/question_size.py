"""Figure E: accuracy against bytes, and against channel uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from edge_server.study.plots.style import COLOURS, figure

_LABELS = {"jpeg-opus": "JPEG + Opus (no headers)", "mp4": "MP4 (H.264 + AAC)"}


def draw(data: Mapping[str, Any]) -> Figure:
    """Left: bytes of what is sent. Right: channel uses at equal accuracy, tokens over media."""
    made, (sizes, uses) = figure(columns=2)
    highest = max((point["snr_db"] for point in data["tokens"]), default=0.0)
    tokens = [point for point in data["tokens"] if point["snr_db"] == highest]
    sizes.plot(
        [point["bytes_int8"] for point in tokens],
        [100 * point["accuracy"]["mean"] for point in tokens],
        color=COLOURS[0],
        marker="o",
        markersize=3,
        label=f"tokens, int8, {highest:g} dB",
    )
    for index, (kind, label) in enumerate(_LABELS.items(), start=1):
        points = [point for point in data["media"] if point["kind"] == kind]
        sizes.scatter(
            [point["bytes"] for point in points],
            [100 * point["accuracy"] for point in points],
            color=COLOURS[index],
            s=8,
            label=label,
        )
        rows = [row for row in data["equal_accuracy"] if row["kind"] == kind and row.get("share")]
        for snr_db, style in zip(sorted({row["snr_db"] for row in rows}), ("--", "-"), strict=False):
            shown = [row for row in rows if row["snr_db"] == snr_db]
            uses.plot(
                [row["token_length"] for row in shown],
                [row["share"] for row in shown],
                color=COLOURS[index],
                linestyle=style,
                marker="o",
                markersize=3,
                label=f"{label}, {snr_db:g} dB",
            )
    sizes.set(xscale="log", xlabel="bytes of a question", ylabel="accuracy [%]", title="What is sent")
    sizes.legend(fontsize=6)
    uses.set(
        xscale="log",
        yscale="log",
        xlabel="token length",
        ylabel="channel uses, tokens / media",
        title="At equal accuracy, media over an ideal code",
    )
    uses.axhline(0.1, color="0.5", linestyle=":", linewidth=1)
    uses.legend(fontsize=6)
    return made
