"""Tables and numbers as the page shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table; cells are anything that can be written."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def percent(share: float) -> str:
    """A share as a percentage."""
    return f"{100 * share:.1f} %"


def points(share: float) -> str:
    """A difference of shares, in percentage points."""
    return f"{100 * share:.1f} points"


def percent_spread(found: Mapping[str, Any], *, sign: bool = False) -> str:
    """Mean and deviation of shares over training seeds, as percentages, and how many seeds."""
    return f"{spread_of(found, 1, 100, sign=sign)} % ({len(found['values'])})"


def spread_of(found: Mapping[str, Any], digits: int, scale: float = 1, *, sign: bool = False) -> str:
    """Mean and deviation, to so many digits; one value has no deviation."""
    mean, std = scale * found["mean"], scale * found["std"]
    around = f" ± {std:.{digits}f}" if len(found["values"]) > 1 else ""
    return f"{mean:{'+' if sign else ''}.{digits}f}{around}"
