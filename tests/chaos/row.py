"""A row of the table: what was done, what came of it, what was promised."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

Scale: TypeAlias = Literal["test", "quick", "full"]
"""Seconds, for the tests; a minute, for a look; as promised, for the results."""


@dataclass(frozen=True)
class Check:
    """One promise.

    Attributes:
        what: was promised, in words.
        found: what came of it.
        limit: what was allowed.
        kept: whether the promise was.
    """

    what: str
    found: float
    limit: float
    kept: bool


def at_most(what: str, found: float, limit: float) -> Check:
    """A promise that something is no more than a limit."""
    return Check(what, round(found, 3), limit, found <= limit)


def at_least(what: str, found: float, limit: float) -> Check:
    """A promise that something is no less than a limit."""
    return Check(what, round(found, 3), limit, found >= limit)


def exactly(what: str, found: float, wanted: float) -> Check:
    """A promise that something is just that."""
    return Check(what, found, wanted, found == wanted)


@dataclass(frozen=True)
class Settled:
    """What a row found of a promise of :mod:`tests.benchmarks.promises`.

    Attributes:
        what: was promised, as it stands there.
        measured: the number, or several in words.
        met: whether it is.
        sides: of a ratio, first over second, by what they are.
    """

    what: str
    measured: float | str
    met: bool
    sides: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Row:
    """A row.

    Attributes:
        name: of the row.
        done: what was done, in words.
        checks: what was promised.
        facts: other figures.
        settles: what it says of promises that stand in the table of them all.
    """

    name: str
    done: str
    checks: Sequence[Check]
    facts: dict[str, Any] = field(default_factory=dict)
    settles: Sequence[Settled] = ()

    @property
    def kept(self) -> bool:
        """Whether all promises were."""
        return all(check.kept for check in self.checks)


Run: TypeAlias = Callable[[Scale, Path], Coroutine[Any, Any, Row]]
"""Does a row at a scale, in an empty folder."""
