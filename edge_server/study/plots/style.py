"""What all figures have in common: sizes, colours, and how they are written."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

PANEL_WIDTH_IN, PANEL_HEIGHT_IN = 4.2, 3.2
DPI = 150

#: Okabe and Ito's colours, which most kinds of colour blindness tell apart; brown in place of their yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

matplotlib.rcParams.update(
    {
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#dddddd",
        "legend.frameon": False,
    }
)


def figure(columns: int = 1, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """An empty figure and its panels, row by row."""
    made = Figure(figsize=(PANEL_WIDTH_IN * columns, PANEL_HEIGHT_IN * rows), layout="constrained")
    FigureCanvasAgg(made)
    return made, [made.add_subplot(rows, columns, index + 1) for index in range(rows * columns)]


def save(made: Figure, path: Path) -> None:
    """Write a figure; without date and version, so that the same results make the same file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made.savefig(path, dpi=DPI, metadata={"Software": None})
