"""Prints what was promised and what became of it; writes promises.json, and the table of docs/security.md.

    python -m tests.benchmarks.promises

Exit code: 0, whether promises are kept or not.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.benchmarks.promises import security_page
from tests.benchmarks.promises.gather import NAME, gather
from tests.benchmarks.promises.history import History
from tests.benchmarks.promises.row import Promise

RESULTS = Path("docs/results")
WIDTH_WITHOUT_TERMINAL = 180


def show(rows: Sequence[Promise], console: Console) -> None:
    """The table, and how much of it is kept."""
    table = Table(title="What was promised")
    for heading in ("area", "what", "asked", "measured", "met", "command", "commit"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        met = {True: "yes", False: "[red]no[/red]", None: ""}[row.met]
        commit = (row.commit or "")[:8] + (" (older than the code)" if row.stale else "")
        told = (row.area, row.what, row.asked, said(row))
        table.add_row(*map(escape, told), met, escape(row.command or ""), commit)
    console.print(table)
    kept, broken = (sum(row.met is verdict for row in rows) for verdict in (True, False))
    console.print(
        f"{len(rows)} promises: {kept} met, {broken} not, {len(rows) - kept - broken} not measured or "
        f"not settled; {sum(row.stale is True for row in rows)} measured on older code"
    )


def said(row: Promise) -> str:
    """What was measured, with the sides of a ratio; why it settles nothing, where it does not."""
    parts = []
    if row.measured is not None:
        parts.append(row.measured if isinstance(row.measured, str) else f"{row.measured:.4g}")
    if row.sides:
        parts.append("(" + ", ".join(f"{name} {side:.4g}" for name, side in row.sides.items()) + ")")
    if row.why:
        parts.append(row.why)
    return " ".join(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="One table of what was promised.")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--out", type=Path, help=f"JSON; default: {NAME}.json in that folder")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH_WITHOUT_TERMINAL
    rows = gather(options.results, History(options.results.resolve()))
    out = options.out or options.results / f"{NAME}.json"
    told = [row.to_json() for row in rows]
    out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    if options.out is None and options.results.resolve() == RESULTS.resolve():
        page = security_page.PAGE
        page.write_text(security_page.with_table(page.read_text(encoding="utf-8"), told), encoding="utf-8")
    show(rows, console)


if __name__ == "__main__":
    main()
