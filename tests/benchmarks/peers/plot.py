"""The comparison as a picture, from its JSON alone.

    python -m tests.benchmarks.peers.plot docs/results/peers.json docs/results/peers.png

Per workload: throughput, also with Hugging Face's class in place of the forward pass that is lent; CPU time
per question; latency at half of the best peer's throughput.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edge_server.study.plots.style import COLOURS, figure, save

_MS = 1e3


def draw(result: Mapping[str, Any]) -> Figure:
    """The figure, a row of panels per workload.

    Args:
        result: what ``tests.benchmarks.peers`` wrote.
    """
    workloads = result["workloads"]
    made, panels = figure(columns=3, rows=len(workloads))
    labels = {each["name"]: each["label"] for each in result["contestants"]}
    for row, (workload, said) in enumerate(workloads.items()):
        throughput, cpu, latency = panels[3 * row : 3 * row + 3]
        closed, opened = result["closed"][workload], result["open"][workload]
        names = sorted(closed, key=lambda name: closed[name]["answered_hz"]["median"])
        _bars(throughput, names, labels, [closed[name]["answered_hz"] for name in names], 1.0)
        eager = result["library"][workload]
        computed = [name for name in names if name in eager]
        throughput.plot(
            [eager[name]["answered_hz"]["median"] for name in computed],
            [names.index(name) for name in computed],
            "D",
            color="white",
            markeredgecolor="black",
        )
        throughput.set(
            xlabel="answers per second; diamonds: with Hugging Face's class", title=said.replace(", ", ",\n")
        )
        _bars(cpu, names, labels, [closed[name]["cpu_s_per_question"] for name in names], _MS)
        cpu.set(xlabel="CPU ms per question, server", title=f"{result['effort']['users']} users, closed loop")
        measured = [name for name in names if name in opened and opened[name]["answered"]]
        _bars(latency, measured, labels, [opened[name]["p99_s"] for name in measured], _MS)
        latency.plot(
            [_MS * opened[name]["p50_s"]["median"] for name in measured],
            range(len(measured)),
            "o",
            color="white",
            markeredgecolor="black",
            label="median",
        )
        rate_hz = result["open_rates_hz"].get(workload, 0.0)
        latency.set(xscale="log", xlabel="latency, ms: p99", title=f"open loop, {rate_hz:.0f} questions/s")
        if measured:
            latency.legend()
    return made


def _bars(
    panel: Axes,
    names: Sequence[str],
    labels: Mapping[str, str],
    spreads: Sequence[Mapping[str, Any]],
    scale: float,
) -> None:
    middles = [scale * spread["median"] for spread in spreads]
    around = [
        [scale * (spread["median"] - spread["low"]) for spread in spreads],
        [scale * (spread["high"] - spread["median"]) for spread in spreads],
    ]
    special = {"ours": COLOURS[0], "limit": COLOURS[6]}
    colours = [special.get(name, COLOURS[4]) for name in names]
    panel.barh(range(len(names)), middles, xerr=around, color=colours, height=0.65, capsize=3)
    panel.set_yticks(range(len(names)), [labels[name] for name in names])
    panel.grid(visible=False, axis="y")


def main(arguments: list[str]) -> None:
    """Entry point: the results file, and the picture to write."""
    results, picture = map(Path, arguments)
    save(draw(json.loads(results.read_text(encoding="utf-8"))), picture)


if __name__ == "__main__":
    main(sys.argv[1:])
