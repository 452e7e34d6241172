"""A co-training round as the page shows it: how far it is, and each device's loss and accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from edge_server.ui import markup
from edge_server.ui.pictures import sparkline

_SHOWN = 60
"""Points of a curve, and devices of a table."""


def round_of(status: Mapping[str, Any]) -> str:
    """The round that a status file tells of; its words are escaped here.

    Args:
        status: as ``edge-server cotrain`` writes it.
    """
    try:
        devices = dict(status["devices"])
        rows = [_row(name, row) for name, row in list(devices.items())[:_SHOWN]]
        named = dict(status.get("named", {}))
        step, rounds = int(status["step"]), int(status["rounds"])
        phase = escape(str(status["phase"]))
    except (KeyError, TypeError, ValueError):
        return '<p class="tl-note">What the round says of itself cannot be read.</p>'
    said = f'<p class="tl-note">Step {step} of {rounds}: {phase}.</p>'
    left_out = "".join(
        f'<p class="tl-error">{escape(str(name))} is left out: {escape(str(how))}</p>'
        for name, how in named.items()
    )
    heads = ("device", "here", "steps", "loss", "now", "right", "held out before", "after")
    return said + markup.table_of("Devices that learn", heads, rows, "tl-devices") + left_out


def _row(name: str, row: Mapping[str, Any]) -> Sequence[str]:
    losses = [round(1000 * float(point[1])) for point in row["curve"]][-_SHOWN:]
    picture = (
        sparkline(losses, f"Loss of {name}, {len(losses)} points") if len(losses) > 1 else markup.NOTHING
    )
    examined = row["examined"]
    return (
        f'<span class="tl-name">{escape(str(name))}</span>',
        "yes" if row["connected"] else "no",
        markup.amount(float(row["steps"])),
        picture,
        markup.NOTHING if row["loss"] is None else f"{float(row['loss']):.3f}",
        markup.NOTHING if row["right"] is None else f"{float(row['right']):.0%}",
        *(
            f"{float(examined[when]['accuracy']):.1%}" if when in examined else markup.NOTHING
            for when in ("before", "after")
        ),
    )
