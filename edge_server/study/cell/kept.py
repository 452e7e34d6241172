"""What was promised of sharing a cell out beside what the study found, as rows for the table of promises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_server.study.cell.compare import BY_FIT, JOINT, OPTIMUM

COMMAND = "edge-server study cell"
MEASURES = ("edge_server/cell/allocation", "edge_server/study/cell")
_NOT_DEARER = 1.0 + 1e-9
_SCARCE_HZ_EACH = 1e6 / 24
"""Below this for each user, spectrum is scarce."""
_LEAST_SAVED, _NEAREST = 0.25, 1.02


def kept(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The promises that a report settles."""
    return [_against_others(report), _against_the_optimum(report)]


def _against_others(report: Mapping[str, Any]) -> dict[str, Any]:
    points = report["points"]
    others = [name for name in points[0]["policies"] if name not in (JOINT, BY_FIT, OPTIMUM)]
    worst = max(point["policies"][name]["worst_drop"] for point in points for name in others)
    scarce = [
        point["policies"]["fixed"]["joint_saves"]["mean"]
        for point in points
        if point["bandwidth_hz"] / point["users"] < _SCARCE_HZ_EACH * (1 - 1e-9)
    ]
    equal = [point["policies"]["equal"]["joint_saves"]["mean"] for point in points]
    return {
        "what": "Cost over total bandwidth and power, 4 to 64 users: joint against every other policy",
        "measured": f"at most {worst:.4f} of any in any drop; {min(scarce):.0%} to {max(scarce):.0%} below "
        f"fixed where spectrum is scarce; {min(equal):.1%} to {max(equal):.1%} below equal with its "
        "best length",
        "met": worst <= _NOT_DEARER and min(scarce) >= _LEAST_SAVED,
    }


def _against_the_optimum(report: Mapping[str, Any]) -> dict[str, Any]:
    drops = sum(row["drops"] for row in report["exhaustive"])
    worst = max(row["worst_ratio"] for row in report["exhaustive"])
    above = max(-point["policies"][OPTIMUM]["joint_saves"]["mean"] for point in report["points"])
    return {
        "what": "Joint allocation over the exhaustive optimum, up to 4 users",
        "measured": f"{worst:.5f} in the worst of {drops} drops, where the loss is the fit; by measured "
        f"loss, 4 to 64 users, at most {above:.2%} above the best of all ways to share the bandwidth",
        "met": worst <= _NEAREST,
    }
