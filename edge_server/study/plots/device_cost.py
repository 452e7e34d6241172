"""Figure F: what the device pays.

    python -m edge_server.study.plots.device_cost docs/results/device_cost.json device_cost.png

Encode time, size and memory of the encoders; accuracy against the bytes of a question.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edge_server.study.plots.style import COLOURS, MARKERS, figure, save

_NAMES = {"fp32": "ONNX fp32", "int8": "ONNX int8", "torch": "torch fp32"}


def draw(report: Mapping[str, Any]) -> Figure:
    """The figure.

    Args:
        report: what ``tests.benchmarks.device_cost`` wrote.
    """
    made, (times, sizes, memory, payloads) = figure(columns=2, rows=2)
    _draw_times(times, report)
    encoders = report["encoders"]
    _bars(sizes, encoders, [sum(row["size_bytes"].values()) / 1e6 for row in encoders])
    sizes.set(ylabel="MB", title="Encoders on disk")
    _bars(memory, encoders, [row["memory"]["encoding_bytes"] / 1e6 for row in encoders])
    memory.set(ylabel="MB", title="Memory of a process that encodes")
    _draw_payloads(payloads, report)
    return made


def _draw_times(panel: Axes, report: Mapping[str, Any]) -> None:
    encoders = report["encoders"]
    spreads_ms = [{key: 1e3 * value for key, value in row["encode_s"].items()} for row in encoders]
    _bars(panel, encoders, [spread["median"] for spread in spreads_ms])
    panel.errorbar(
        range(len(encoders)),
        [spread["median"] for spread in spreads_ms],
        [
            [spread["median"] - spread["lower"] for spread in spreads_ms],
            [spread["upper"] - spread["median"] for spread in spreads_ms],
        ],
        fmt="none",
        ecolor="black",
        capsize=4,
    )
    panel.set(ylabel="ms", title="Encoding a clip, one thread")


def _bars(panel: Axes, encoders: list[Mapping[str, Any]], heights: list[float]) -> None:
    bars = panel.bar(range(len(encoders)), heights, color=COLOURS[: len(encoders)], width=0.6)
    panel.bar_label(bars, fmt="%.1f", padding=3)
    panel.set_xticks(range(len(encoders)), [_NAMES[row["name"]] for row in encoders])
    panel.margins(y=0.15)
    panel.grid(visible=False, axis="x")


def _draw_payloads(panel: Axes, report: Mapping[str, Any]) -> None:
    frame_bytes = {row["dtype"]: row["frame_bytes"] for row in report["payloads"]}
    snrs_db = sorted({row["snr_db"] for row in report["accuracy"]}, reverse=True)
    for graphs, style in (("fp32", "-"), ("int8", "--")):
        for index, snr_db in enumerate(snrs_db):
            rows = [r for r in report["accuracy"] if (r["graphs"], r["snr_db"]) == (graphs, snr_db)]
            rows.sort(key=lambda row: float(frame_bytes[row["payload"]]))
            panel.plot(
                [frame_bytes[row["payload"]] for row in rows],
                [100 * row["accuracy"] for row in rows],
                style,
                marker=MARKERS[index],
                color=COLOURS[("fp32", "int8").index(graphs)],
                label=f"{_NAMES[graphs]}, {snr_db:g} dB",
            )
    panel.set_xscale("log", base=2)
    panel.set_xticks(list(frame_bytes.values()), [f"{name}\n{n:.0f}" for name, n in frame_bytes.items()])
    panel.minorticks_off()
    panel.set(xlabel="payload, bytes of a question", ylabel="accuracy, %", title="Accuracy against bytes")
    panel.legend()


def main(arguments: list[str]) -> None:
    """Entry point: the results file, and the picture to write."""
    results, picture = map(Path, arguments)
    save(draw(json.loads(results.read_text())), picture)


if __name__ == "__main__":
    main(sys.argv[1:])
