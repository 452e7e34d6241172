"""Settings of co-training that were tried, and how one was chosen: on validation clips, with their own seed.

Test clips play no part in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_server.cotrain.plan import REHEARSE_SHARE

SEED = 11
MOST_LOST_POINTS = 1.0
RULE = (
    "the most won back on shifted clips among those that lose at most 1 point on unshifted ones, with the "
    "devices' own heads and with the first head; where none does, the one that loses least"
)


KEPT = ((0.0, 0.0), (0.15, 0.15), (0.15, 0.3), (0.3, 0.3))
"""How far the edge's weights and the heads are pulled back; each costs no training."""


def _settings(rate: float, head_rate: float, clips: int, align: float) -> list[dict[str, Any]]:
    return [
        {
            "rehearse_share": REHEARSE_SHARE,
            "learning_rate": rate,
            "head_rate": head_rate,
            "clips": clips,
            "align": align,
            "keep_edge": edge,
            "keep_heads": heads,
        }
        for edge, heads in KEPT
    ]


CANDIDATES: Sequence[Mapping[str, Any]] = (
    *_settings(3e-4, 1.0, 2, 0.0),
    *_settings(1e-3, 0.2, 4, 0.0),
    *_settings(1e-3, 0.2, 4, 0.3),
)
"""What of a plan is told otherwise."""


def lost_points(before: Mapping[str, Any], found: Mapping[str, Any]) -> float:
    """Points lost on unshifted clips, with whichever head is worse."""
    worse = min(found["unshifted"], found["unshifted_with_first_head"])
    return 100.0 * (float(before["unshifted"]) - float(worse))


def chosen(before: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The settings that :data:`RULE` takes."""
    kept = [each for each in found if lost_points(before, each) <= MOST_LOST_POINTS]
    if kept:
        best = max(kept, key=lambda each: float(each["shifted"]))
    else:
        best = min(found, key=lambda each: lost_points(before, each))
    settings: Mapping[str, Any] = best["settings"]
    return settings
