"""A row of the table: how it is measured, and what was promised of it."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from rich.console import Console

from device_agent.bench import Spread

_Value = TypeVar("_Value")
Values: TypeAlias = Mapping[str, Any]
"""What a row measured, as it stands in the JSON."""


@dataclass(frozen=True)
class Claim:
    """One thing that was promised, beside what was measured.

    Attributes:
        text: what the number is.
        sense: on which side of the limit it has to be.
        limit: the bound.
        measured: the number.
        unit: of both, as it is printed; empty for ratios and counts.
        sides: of a ratio, first over second, by what they are. Where turns were compared one by one, the
            ratio is the median of theirs, and near that of these medians.
    """

    text: str
    sense: Literal["at most", "at least"]
    limit: float
    measured: float
    unit: str = ""
    sides: Mapping[str, float] | None = None

    @property
    def met(self) -> bool:
        """Whether the promise is kept; a number that is none keeps nothing."""
        if math.isnan(self.measured):
            return False
        return self.measured <= self.limit if self.sense == "at most" else self.measured >= self.limit


@dataclass(frozen=True)
class Context:
    """Where and how closely to measure.

    Attributes:
        model: folder of the served model.
        quick: seconds and tiny sizes: whether it works, not how fast it is.
        console: for what happens meanwhile.
        seed: of arrivals, tokens and cancellations.
    """

    model: Path
    quick: bool
    console: Console
    seed: int = 1

    def pick(self, full: _Value, quick: _Value) -> _Value:
        """One or the other size."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        name: on the command line and in the JSON.
        title: what is looked at.
        measure: takes the measurement.
        claims: what was promised, from what was measured.
        plot: draws what was measured into a PNG; None: there is nothing to draw.
    """

    name: str
    title: str
    measure: Callable[[Context], Awaitable[dict[str, Any]]]
    claims: Callable[[Values], Sequence[Claim]]
    plot: Callable[[Values, Path], None] | None = None


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles, and all the values; of a single one, that one."""
    found = Spread.of(values) if len(values) > 1 else Spread(values[0], values[0], values[0])
    return {"median": found.median, "lower": found.lower, "upper": found.upper, "values": list(values)}  # type: ignore[dict-item]
