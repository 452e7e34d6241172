"""Figure B: loss and accuracy against rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edge_server.study.plots.style import COLOURS, figure

_SHORT = ("two-stage", "no-alignment", "authors")
_LONG = ("two-stage-long", "no-alignment-long")
_TEMPERATURES = ("temperature-0.03", "rung-length", "temperature-0.13", "no-alignment")
_NAMES = {"rung-length": "temperature-0.07"}


def draw(data: Mapping[str, Any]) -> Figure:
    """Accuracy at both budgets, loss, temperatures, token lengths."""
    curves = {curve["system"]: curve for curve in data["curves"]}
    lengths = [system for system in curves if system.endswith("-tokens")]
    made, panels = figure(columns=3, rows=2)
    _accuracy(panels[0], curves, _SHORT, "the paper's budget")
    _accuracy(panels[1], curves, _LONG, "ten times that")
    panels[2].set_title("loss of fine-tuning")
    for index, system in enumerate(s for s in (*_SHORT, *_LONG) if s in curves):
        curve = curves[system]
        panels[2].plot(
            curve["loss_rounds"], _smooth(curve["loss"]), color=COLOURS[index], linewidth=1, label=system
        )
    panels[2].set_xlabel("round")
    panels[2].set_xscale("symlog", linthresh=20)
    panels[2].legend(fontsize=6)
    _accuracy(panels[3], curves, _TEMPERATURES, "contrastive loss alone, temperatures")
    _accuracy(panels[4], curves, lengths, "token lengths")
    panels[5].set_title(f"rounds to {data['nearly']:.0%} of the final accuracy")
    shown = list(curves)
    panels[5].barh(
        [_NAMES.get(system, system) for system in shown],
        [curves[system]["rounds_to_nearly"]["mean"] for system in shown],
        xerr=[curves[system]["rounds_to_nearly"]["std"] for system in shown],
        color=COLOURS[0],
    )
    panels[5].tick_params(axis="y", labelsize=6)
    panels[5].set_xscale("symlog", linthresh=10)
    return made


def _accuracy(panel: Axes, curves: Mapping[str, Any], systems: Sequence[str], title: str) -> None:
    panel.set_title(title)
    for index, system in enumerate(s for s in systems if s in curves):
        curve = curves[system]
        panel.errorbar(
            curve["rounds"],
            [100 * point["mean"] for point in curve["accuracy"]],
            yerr=[100 * point["std"] for point in curve["accuracy"]],
            color=COLOURS[index],
            linewidth=1.2,
            capsize=2,
            label=_NAMES.get(system, system),
        )
    panel.set_xlabel("round")
    panel.set_ylabel("accuracy [%]")
    panel.legend(fontsize=6)


def _smooth(values: Sequence[float], window: int = 5) -> list[float]:
    """Means over the last few values: a round has few questions."""
    return [
        sum(part) / len(part) for i in range(len(values)) if (part := values[max(0, i + 1 - window) : i + 1])
    ]
