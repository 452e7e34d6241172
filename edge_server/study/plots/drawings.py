"""All drawings: which JSON file is drawn by what, into which picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from edge_server.study.plots import (
    ablation,
    accuracy_snr,
    alignment,
    alignment_seen,
    cell,
    convergence,
    device_cost,
    inversion,
    out_of_domain,
    progressive,
    question_size,
    radio,
    semantic,
    token_length,
    wordings,
)
from edge_server.study.plots.style import save

Draw = Callable[[Mapping[str, Any]], Figure]

#: Picture: JSON file, and what draws it.
DRAWINGS: Mapping[str, tuple[str, Draw]] = {
    "accuracy_snr": ("accuracy_snr", accuracy_snr.draw),
    "accuracy_types": ("accuracy_snr", accuracy_snr.draw_types),
    "convergence": ("convergence", convergence.draw),
    "token_length": ("token_length", token_length.draw),
    "alignment_seen": ("alignment_seen", alignment_seen.draw),
    "question_size": ("question_size", question_size.draw),
    "device_cost": ("device_cost", device_cost.draw),
    "ablation": ("ablation", ablation.draw),
    "cell": ("cell", cell.draw),
    "progressive": ("progressive", progressive.draw),
    "radio": ("radio", radio.draw),
    "alignment": ("alignment", alignment.draw),
    "inversion": ("inversion", inversion.draw),
    "semantic_digital": ("semantic_digital", semantic.draw),
    "wordings": ("wordings", wordings.draw),
    "out_of_domain": ("out_of_domain", out_of_domain.draw),
}


def draw_all(folder: Path) -> None:
    """Draw every figure whose JSON file lies in a folder, beside it."""
    for picture, (name, draw) in DRAWINGS.items():
        source = folder / f"{name}.json"
        if source.exists():
            save(draw(json.loads(source.read_text())), folder / f"{picture}.png")
