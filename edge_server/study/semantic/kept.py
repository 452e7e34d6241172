"""The promise that the comparison settles: a figure, whoever wins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_server.study.semantic.compare import ANALOG, HARQ, REPEATED

_WHAT = "Analog minus semantic digital with HARQ, block fading, 0 dB"


def usual(report: Mapping[str, Any]) -> dict[str, Any]:
    """The point that is promised: Rayleigh block fading at 0 dB, with the widest budget; IndexError: none."""
    found = [
        point
        for point in report["points"]
        if (point["channel"], point["spread"], point["snr_db"]) == ("rayleigh", "fresh", 0.0)
    ]
    return dict(sorted(found, key=lambda point: -point["budget"])[0])


def kept(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """As a row for the table of promises."""
    point = usual(report)
    rows = {row["system"]: row for row in point["rows"]}
    told = []
    for name in (ANALOG, REPEATED):
        ahead = point["ahead"][f"{name} minus {HARQ}"]
        low, high = (100 * bound for bound in ahead["interval"])
        told.append(
            f"{100 * ahead['accuracy']:+.1f} points ({low:+.1f} to {high:+.1f}) {name}: "
            f"{100 * rows[name]['accuracy']:.1f}% with {rows[name]['uses']:.0f} uses"
        )
    harq = rows[HARQ]
    told.append(f"HARQ: {100 * harq['accuracy']:.1f}% with {harq['uses']:.0f} uses, {harq['bits']} bits")
    return [{"what": _WHAT, "measured": "; ".join(told), "met": True}]
