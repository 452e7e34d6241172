"""Figure K: co-training. Loss over gRPC and in one process; accuracy of each policy in each world."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edge_server.study.plots.style import COLOURS, figure
from edge_server.study.report.cotrain_kept import policies_of

_SMOOTHED = 10


def draw(report: Mapping[str, Any]) -> Figure:
    """The figure.

    Args:
        report: what ``edge-server study cotrain`` wrote; rows that are missing leave their panel empty.
    """
    made, (curves, worlds) = figure(columns=2)
    rows = report["rows"]
    if "equality" in rows:
        _curves(curves, rows["equality"])
    if "shift" in rows:
        _worlds(worlds, rows["shift"])
    return made


def _curves(panel: Axes, row: Mapping[str, Any]) -> None:
    styles = {"over_grpc": ("-", "over gRPC"), "in_one_process": ("--", "in one process")}
    for index, (name, (style, label)) in enumerate(styles.items()):
        curve = np.mean([each["mean_loss"][name] for each in row["seeds"]], axis=0)
        window = max(1, min(_SMOOTHED, len(curve)))
        smooth = np.convolve(curve, np.ones(window) / window, mode="valid")
        panel.plot(np.arange(len(smooth)) + window, smooth, style, color=COLOURS[index], label=label)
    panel.set(xlabel="step", ylabel=f"loss, mean of devices, seeds and {_SMOOTHED} steps")
    panel.legend(fontsize=7)


def _worlds(panel: Axes, row: Mapping[str, Any]) -> None:
    before, seeds = row["before"]["worlds"], row["seeds"]
    policies = policies_of(row)
    told = next(seed[policies[0]]["devices"] for seed in seeds if policies[0] in seed)
    names = [name for name in before if name in told]
    places = np.arange(len(names))
    bars = {"before": [before[name] for name in names]}
    for policy in policies:
        devices = [seed[policy]["devices"] for seed in seeds if policy in seed]
        bars[policy] = [float(np.mean([each[name]["shifted"] for each in devices])) for name in names]
    width = 0.8 / len(bars)
    for index, (label, values) in enumerate(bars.items()):
        panel.bar(places + index * width, np.array(values) * 100, width, color=COLOURS[index], label=label)
    panel.set_xticks(places + 0.4 - width / 2, names, rotation=30, fontsize=7)
    panel.set(ylabel="shifted test questions answered right, %")
    panel.legend(fontsize=6, loc="lower right")
