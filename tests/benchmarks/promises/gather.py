"""All rows of the table, each with its command, its commit, and whether it is older than what it measures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.benchmarks.promises.history import History
from tests.benchmarks.promises.row import RATIO, Promise, is_defined
from tests.benchmarks.promises.sources import SOURCES, Results, open_promises, settled

NAME = "promises"


def read_results(folder: Path) -> dict[str, Any]:
    """Every JSON file of a folder of results but this program's own."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.json"))
        if path.stem != NAME
    }


def gather(folder: Path, history: History) -> list[Promise]:
    """The table, from a folder of results.

    Args:
        folder: docs/results, or a copy.
        history: of the checkout that the results were made in.

    Raises:
        ValueError: a result settles what was never promised, or what another settles too.
    """
    results = read_results(folder)
    rows = [
        _dated(_sound(row), source.measures, results, folder, history)
        for source in SOURCES
        for row in source.read(results)
    ]
    found, by_what = settled(results), {row.what: row for row in rows}
    for promised in open_promises():
        row = promised.row
        if promised.measured_by is None and row.what in by_what:
            continue  # a source states it, now that it was measured
        if promised.measured_by is not None:
            number = by_what[promised.measured_by].measured if promised.measured_by in by_what else None
            if isinstance(number, int | float):
                met = promised.at_least <= number <= promised.at_most
                row = replace(by_what[promised.measured_by], what=row.what, asked=row.asked, met=met)
        elif row.what in found:
            file, report, told = found.pop(row.what)
            filled = replace(
                row,
                measured=told["measured"],
                met=told["met"],
                sides=told.get("sides"),
                unit=RATIO if told.get("sides") else told.get("unit", ""),
                why=told.get("why"),
                command=report["command"],
                commit=told.get("commit"),
                files=(file,),
            )
            row = _dated(_sound(filled), report["measures"], results, folder, history)
        rows.append(row)
    if found:
        what, (file, _, _) = next(iter(found.items()))
        raise ValueError(f"{file}.json: {what!r} was never promised (tests/benchmarks/promises/asked)")
    return sorted(rows, key=lambda row: row.area)


def _sound(row: Promise) -> Promise:
    """The row; not met where it is a ratio without two sides."""
    if row.unit == RATIO and row.met is not None and not is_defined(row.sides):
        return replace(row, met=None, measured=None, why="a ratio without two sides")
    return row


def _dated(
    row: Promise, measures: Sequence[str], results: Results, folder: Path, history: History
) -> Promise:
    """The row with its commit: its own, or that of the first file it was read from; None: of no file."""
    if not row.files:
        return row
    commits = [row.commit or _commit(results[file], folder / f"{file}.json", history) for file in row.files]
    return replace(row, commit=commits[0], stale=history.is_stale(commits, measures))


def _commit(report: Mapping[str, Any], path: Path, history: History) -> str | None:
    """Of a result: as it says itself, else when it was committed."""
    own = report.get("commit")
    return own if isinstance(own, str) and own != "unknown" else history.last_change(str(path.resolve()))
