"""Runs the rows, prints the table, writes JSON. A run that is cut goes on with the rows that are missing.

Rows that kept their promises at a commit since which nothing that they measure has changed stay as they are.

python -m tests.chaos            every row, as promised
python -m tests.chaos --quick    a small version of each
python -m tests.chaos --row kills --row stampede
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tests.chaos.report import Report
from tests.chaos.row import Scale
from tests.chaos.rows import ROWS
from tests.chaos.running import run_rows

# Of gRPC in processes that attack: who is cut off is told so many times.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

RESULTS = Path("docs/results/chaos.json")
QUICK_RESULTS = Path("build/chaos-quick.json")


def main() -> None:
    """Entry point; exit code 1 where a promise was not kept."""
    parser = argparse.ArgumentParser(description="Break things on purpose, and see what was promised kept.")
    parser.add_argument("--quick", action="store_true", help="a small version of each row")
    parser.add_argument("--row", action="append", choices=list(ROWS), help="only this one; may be repeated")
    parser.add_argument("--out", type=Path, help=f"JSON; else {RESULTS}, quick {QUICK_RESULTS}")
    parser.add_argument("--again", action="store_true", help="rows that are in the JSON already, too")
    arguments = parser.parse_args()
    scale: Scale = "quick" if arguments.quick else "full"
    out: Path = arguments.out or (QUICK_RESULTS if arguments.quick else RESULTS)
    names = arguments.row or list(ROWS)
    # What a quick run, or a named row, is asked for is wanted anew.
    keep = not (arguments.again or arguments.quick or arguments.row)
    report = Report(out, scale)
    there = [name for name in names if keep and report.holds(name)]
    for name in there:
        print(f"{name}: is there already, of this code", file=sys.stderr)
    for name, row, took_s in run_rows([name for name in names if name not in there], scale):
        report.put(name, row, took_s)
    done = report.rows
    show(Console(highlight=False), {name: done[name] for name in names})
    if not all(done[name]["kept"] for name in names):
        sys.exit(1)


def show(console: Console, rows: dict[str, Any]) -> None:
    """Print the table."""
    table = Table(show_lines=True)
    for heading in ("row", "what was done", "what came of it"):
        table.add_column(heading, overflow="fold")
    for name, row in rows.items():
        found = "\n".join(
            f"{'✓' if check['kept'] else '✗'} {check['what']}: {check['found']:g} ({check['limit']:g})"
            for check in row["checks"]
        )
        table.add_row(name, row["done"], Text(found))
    console.print(table)


if __name__ == "__main__":
    main()
