"""What rows came to, as JSON: each with the commit that it was run at, and the promises that it settles."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge_server.model.provenance import current_commit
from tests.benchmarks.promises.history import History
from tests.chaos.row import Row, Scale
from tests.chaos.rows import ROWS

COMMAND = "python -m tests.chaos"
MEASURES = ("edge_server", "device_agent", "protos", "tests/chaos")
"""Code whose change makes a row old."""
_ROOT = Path(__file__).resolve().parents[2]


class Report:
    """The rows of one file.

    Args:
        path: of the file; what it holds at another scale is left out.
        scale: of the rows.
        history: of the checkout.
    """

    def __init__(self, path: Path, scale: Scale, history: History | None = None) -> None:
        self._path = path
        self._scale = scale
        self._history = history or History(_ROOT)
        self.rows = self._written()

    def holds(self, name: str) -> bool:
        """Whether a row is there, kept its promises, and no code that it measures has changed since."""
        row = self.rows.get(name)
        if row is None or not row["kept"]:
            return False
        return self._history.is_stale([row.get("commit")], MEASURES) is False

    def put(self, name: str, row: Row, took_s: float) -> None:
        """Write a row down: the file is whole after each, and another run may write into it too."""
        commit = "unknown" if self._history.is_dirty(MEASURES) else current_commit()
        found = {**asdict(row), "kept": row.kept, "took_s": round(took_s, 1), "commit": commit}
        self.rows = {**self._written(), name: found}
        self.rows = {each: self.rows[each] for each in ROWS if each in self.rows}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self._to_json(), indent=2)
        draft = self._path.with_suffix(".draft")
        draft.write_text(text + "\n")
        draft.replace(self._path)

    def _written(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._path.read_text()) if self._path.exists() else {}
        rows: dict[str, Any] = found.get("rows", {}) if found.get("scale") == self._scale else {}
        return rows

    def _to_json(self) -> Mapping[str, Any]:
        return {
            "scale": self._scale,
            "command": COMMAND,
            "measures": MEASURES,
            "promises": promises_of(list(self.rows.values())),
            "rows": self.rows,
        }


def promises_of(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What rows settle, each with its row's commit."""
    return [{**each, "commit": row["commit"]} for row in rows for each in row.get("settles", ())]
