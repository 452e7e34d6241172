"""A row of the table of promises, and what makes it one that can be believed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

Measured: TypeAlias = float | str | None


@dataclass(frozen=True)
class Promise:
    """What was promised, and what became of it.

    Attributes:
        area: topic.
        what: was promised.
        asked: the bound, in words.
        measured: the number; None where nothing was measured.
        met: None where nothing was measured, or what was measured settles nothing.
        command: that measured it.
        commit: at which it was measured.
        files: in docs/results that it was read from.
        sides: of a ratio, first over second, by what they are.
        unit: of ``measured``; ``ratio`` for a ratio, which needs its sides.
        why: it is not settled, where it was measured and is not.
        stale: whether code that it measures has changed since; None where that cannot be told.
    """

    area: str
    what: str
    asked: str
    measured: Measured = None
    met: bool | None = None
    command: str | None = None
    commit: str | None = None
    files: Sequence[str] = ()
    sides: Mapping[str, float] | None = None
    unit: str = ""
    why: str | None = None
    stale: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """As it stands in promises.json."""
        return {**asdict(self), "files": list(self.files)}


RATIO = "ratio"


def is_defined(sides: Mapping[str, float] | None) -> bool:
    """Whether a ratio has two sides, both finite, the second not nothing."""
    if sides is None or len(sides) != 2:
        return False
    return all(math.isfinite(side) for side in sides.values()) and list(sides.values())[1] > 0
