"""Measured loss from two files of the study: ``token_length.json`` and ``accuracy_snr.json``."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from edge_server.cell.allocation.loss import LossPoint


def points_of_study(folder: Path, *, system: str = "two-stage", channel: str = "awgn") -> list[LossPoint]:
    """Every SNR and token length at which the study asked a system; loss is 1 - accuracy, the seeds' mean.

    The study's clips have sight and sound, so this is the loss of that mix. A point that both files have is
    their mean. Token lengths were swept over an AWGN channel alone.

    Args:
        folder: where both files are.
        system: as the study names it.
        channel: ``awgn``, or another that ``accuracy_snr.json`` has; gains that hold for a block.

    Raises:
        OSError: a file is missing.
        ValueError: a file is not the study's, or has no such system or channel.
    """
    losses: dict[tuple[float, int], list[float]] = defaultdict(list)
    for curve in _curves(folder / "accuracy_snr.json"):
        if (curve["system"], curve["channel"], curve["fading"]) == (system, channel, "block"):
            for snr_db, accuracy in zip(curve["snr_db"], curve["accuracy"], strict=True):
                losses[snr_db, curve["token_length"]].append(1.0 - accuracy["mean"])
    for curve in _curves(folder / "token_length.json"):
        if (curve["system"], channel) == (system, "awgn"):
            for point in curve["points"]:
                losses[curve["snr_db"], point["token_length"]].append(1.0 - point["accuracy"]["mean"])
    if not losses:
        raise ValueError(f"{folder}: the study has nothing of system {system!r} over channel {channel!r}")
    return [
        LossPoint(snr, length, sum(found) / len(found)) for (snr, length), found in sorted(losses.items())
    ]


def _curves(path: Path) -> list[dict[str, Any]]:
    try:
        curves = json.loads(path.read_text(encoding="utf-8"))["curves"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a result of the study: {error!r}") from error
    return list(curves)
