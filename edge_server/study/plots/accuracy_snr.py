"""Figure A: accuracy against SNR, a panel per channel, and one per question type over the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from device_agent.channel import MODELS
from edge_server.study.plots.style import COLOURS, MARKERS, figure

LABELS = {
    "two-stage": "two-stage",
    "no-alignment": "no alignment",
    "authors": "authors' scheme",
    "two-stage-long": "two-stage, long",
    "no-alignment-long": "no alignment, long",
    "digital": "JPEG + Opus, LDPC, QAM",
    "digital-capacity": "JPEG + Opus, ideal code",
    "quantised": "quantised tokens, LDPC, QAM",
}


def draw(data: Mapping[str, Any]) -> Figure:
    """The channels beside one another."""
    channels = list(dict.fromkeys((curve["channel"], curve["fading"]) for curve in data["curves"]))
    made, panels = figure(columns=len(channels))
    for panel, key in zip(panels, channels, strict=True):
        panel.set_title(_title(*key))
        for curve in data["curves"]:
            if (curve["channel"], curve["fading"]) == key:
                _curve(panel, curve, data["token_length"])
        for name, style in (("blind_prior", ":"), ("text_oracle", "--")):
            panel.axhline(100 * data[name]["accuracy"], color="0.5", linestyle=style, linewidth=1)
            panel.annotate(
                name.replace("_", " "),
                (1, 100 * data[name]["accuracy"]),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="bottom",
                fontsize=7,
                color="0.4",
            )
        panel.set_xlabel("SNR [dB]")
        panel.set_ylim(30, 102)
    panels[0].set_ylabel("accuracy [%]")
    lines, names = panels[0].get_legend_handles_labels()
    made.legend(lines, names, fontsize=7, loc="outside lower center", ncols=5)
    return made


def _title(channel: str, fading: str) -> str:
    kind = MODELS[channel]
    return f"{kind.label} {fading} fading" if kind.fades else kind.label


def draw_types(data: Mapping[str, Any]) -> Figure:
    """A panel per question type, over AWGN."""
    curves = [c for c in data["curves"] if "per_type" in c and c["token_length"] == data["token_length"]]
    kinds: Sequence[str] = list(curves[0]["per_type"]) if curves else []
    made, panels = figure(columns=3, rows=max(1, -(-len(kinds) // 3)))
    for panel, kind in zip(panels, kinds, strict=False):
        panel.set_title(kind)
        for curve in curves:
            colour, marker = _look(curve["system"])
            panel.plot(
                curve["snr_db"],
                [100 * a for a in curve["per_type"][kind]],
                color=colour,
                marker=marker,
                markersize=3,
                linewidth=1,
                label=LABELS[curve["system"]],
            )
        prior = data["blind_prior"]["per_type"].get(kind)
        if prior:
            panel.axhline(100 * prior["accuracy"], color="0.5", linestyle=":", linewidth=1)
        panel.set_ylim(0, 102)
    if kinds:
        panels[0].legend(fontsize=6)
    return made


def _curve(panel: Axes, curve: Mapping[str, Any], usual_length: int) -> None:
    colour, marker = _look(curve["system"])
    short = curve["token_length"] != usual_length
    label = LABELS[curve["system"]] + (f", {curve['token_length']} tokens" if short else "")
    panel.errorbar(
        curve["snr_db"],
        [100 * point["mean"] for point in curve["accuracy"]],
        yerr=[100 * point["std"] for point in curve["accuracy"]],
        color=colour,
        marker=marker,
        markersize=3,
        linewidth=1.2,
        capsize=2,
        linestyle="--" if short else "-",
        label=label,
    )


def _look(system: str) -> tuple[str, str]:
    index = list(LABELS).index(system)
    return COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
