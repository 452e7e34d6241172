"""Bad rows of a data set: counted by cause, named, and too many of them stop a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from edge_server.errors import DatasetError

Fault: TypeAlias = Literal[
    "malformed row",
    "wrong number of values",
    "missing frames",
    "missing sound",
    "unreadable frames",
    "unreadable sound",
    "missing media",
    "unreadable media",
]
"""Why a row is bad."""

#: A data set with a larger share of bad rows is neither trained on nor asked about.
MAX_BAD_SHARE = 0.01
_NAMED = 5


@dataclass
class RowReport:
    """How many rows a data set has, and which of them are bad.

    Attributes:
        source: where the rows stand.
        rows: all of them.
        bad: per cause, the names of bad rows.
    """

    source: str
    rows: int = 0
    bad: dict[Fault, list[str]] = field(default_factory=dict)

    def add(self, fault: Fault, name: str) -> None:
        """Count a bad row."""
        self.bad.setdefault(fault, []).append(name)

    @property
    def bad_rows(self) -> int:
        """How many are bad."""
        return sum(map(len, self.bad.values()))

    def stop_if_too_many(self) -> None:
        """Refuse a data set that is worse than MAX_BAD_SHARE.

        Raises:
            DatasetError: says how many rows are bad, and names the first of each cause.
        """
        if self.bad_rows > MAX_BAD_SHARE * self.rows:
            raise DatasetError(f"{self}; at most {MAX_BAD_SHARE:.0%} may be")

    def to_json(self) -> dict[str, object]:
        """For a run's record."""
        return {"source": self.source, "rows": self.rows, "bad": _ordered(self.bad)}

    def __str__(self) -> str:
        text = f"{self.source}: {self.bad_rows} of {self.rows} rows are bad"
        causes = [
            f"{len(names)} {fault} ({', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''})"
            for fault, names in _ordered(self.bad).items()
        ]
        return f"{text}: {'; '.join(causes)}" if causes else text


def _ordered(bad: Mapping[Fault, list[str]]) -> dict[Fault, list[str]]:
    return {fault: bad[fault] for fault in get_args(Fault) if fault in bad}
