"""Figure D: tokens and words before and after stage 1, and retrieval over SNR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edge_server.study.plots.style import COLOURS, figure

_SHOWN = "two-stage"


def draw(data: Mapping[str, Any]) -> Figure:
    """Maps in the first two columns (before, after), recall in the last; a row per modality."""
    made, panels = figure(columns=3, rows=2)
    slots = list(dict.fromkeys(found["slot"] for found in data["maps"]))
    for row, slot in enumerate(slots):
        for column, when in enumerate(("before", "after")):
            panel = panels[3 * row + column]
            panel.set_title(f"{slot} tokens (●) and words (×), {when} stage 1")
            panel.set_xticks([])
            panel.set_yticks([])
            for found in data["maps"]:
                if (found["system"], found["slot"], found["when"]) == (_SHOWN, slot, when):
                    _map(panel, found)
        panel = panels[3 * row + 2]
        panel.set_title(f"{slot} to text")
        index = 0
        for curve in data["recall"]:
            if curve["slot"] == slot and (curve["when"] == "after" or curve["system"] == _SHOWN):
                for name, style in (("recall_at_1", "-"), ("recall_at_5", "--")):
                    panel.errorbar(
                        curve["snr_db"],
                        [100 * point["mean"] for point in curve[name]],
                        yerr=[100 * point["std"] for point in curve[name]],
                        color=COLOURS[index],
                        linestyle=style,
                        linewidth=1,
                        capsize=2,
                        label=f"{curve['system']} {curve['when']}: {name.replace('_', ' ')}",
                    )
                index += 1
        panel.set_xlabel("SNR [dB]")
        panel.set_ylabel("recall [%]")
        panel.legend(fontsize=5)
    return made


def _map(panel: Axes, found: Mapping[str, Any]) -> None:
    kinds = sorted(set(found["colours"]))
    colours = [colormaps["tab20"](kinds.index(kind) % 20) for kind in found["colours"]]
    for points, marker, size in ((found["tokens"], "o", 6), (found["texts"], "x", 8)):
        panel.scatter(
            [x for x, _ in points], [y for _, y in points], c=colours, s=size, marker=marker, linewidths=0.5
        )
