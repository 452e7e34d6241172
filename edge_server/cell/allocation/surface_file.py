"""A model's measured loss, as ``edge-server evaluate --loss-surface`` writes it into the model folder.

    {"format": 1, "mixes": {"visual+audio": {"points": [{"snr_db", "token_length", "loss", "questions"}],
                                             "fit": {"a", "b", "p", "c", "d", "rms_error", "max_error"}}}}

A *mix* is what a question's clip was sent as: the slots of its modalities, joined by ``+``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge_server.cell.allocation.loss import LossFit, LossPoint
from edge_server.cell.allocation.loss_table import LossTable

FILE = "loss_surface.json"
"""Its name in a model folder."""
FORMAT = 1


def mix_of(slots: Collection[str]) -> str:
    """The name of a mix: its slots in the prompt's order, sight first."""
    return "+".join(sorted(slots, key=lambda slot: (slot != "visual", slot)))


def surface_json(points: Mapping[str, Sequence[LossPoint]]) -> dict[str, Any]:
    """The file's contents, but for what else its writer wants to say.

    Args:
        points: of each mix.

    Raises:
        ValueError: points of a mix are too few to fit.
    """
    return {
        "format": FORMAT,
        "mixes": {
            mix: {
                "fit": asdict(LossFit.of(measured)),
                "points": [asdict(point) for point in measured],
            }
            for mix, measured in points.items()
        },
    }


def read_tables(path: Path) -> dict[str, LossTable] | None:
    """The measured loss of each mix; None: there is no such file.

    Raises:
        ValueError: it is not one of these.
        OSError: it cannot be read.
    """
    found = _read(path)
    if found is None:
        return None
    try:
        return {
            mix: LossTable([LossPoint(**point) for point in of_mix["points"]], LossFit(**of_mix["fit"]))
            for mix, of_mix in found["mixes"].items()
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: not a loss surface: {error!r}") from error


def read_points(path: Path) -> dict[str, list[LossPoint]]:
    """The measured points of each mix; raises as :func:`read_tables`, and where there is no file."""
    found = _read(path)
    if found is None:
        raise ValueError(f"{path}: there is no such file; `edge-server evaluate --loss-surface` writes it")
    try:
        return {
            mix: [LossPoint(**point) for point in of_mix["points"]] for mix, of_mix in found["mixes"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a loss surface: {error!r}") from error


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path}: not a loss surface: {error}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"{path}: not a loss surface of format {FORMAT}")
    return found
