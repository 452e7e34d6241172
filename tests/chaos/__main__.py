"""Runs the rows, prints the table, writes JSON. A run that is cut goes on with the rows that are missing.

python -m tests.chaos            every row, as promised
python -m tests.chaos --quick    a small version of each
python -m tests.chaos --row kills --row stampede
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import logging
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tests.chaos.row import Row, Run, Scale
from tests.chaos.rows import ROWS

RESULTS = Path("docs/results/chaos.json")
QUICK_RESULTS = Path("build/chaos-quick.json")


def run_row(name: str, scale: Scale) -> Row:
    """Run one row in a fresh folder, which stays where a promise was not kept."""
    run: Run = importlib.import_module(ROWS[name]).run
    folder = Path(tempfile.mkdtemp(prefix=f"tokenlink-chaos-{name}-"))
    row = asyncio.run(run(scale, folder))
    if row.kept:
        shutil.rmtree(folder)
    else:
        print(f"{name}: what was left lies in {folder}", file=sys.stderr)
    return row


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
    results: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    done: dict[str, Any] = results.get("rows", {}) if results.get("scale") == scale else {}
    logging.disable(logging.WARNING)
    for name in names:
        if keep and name in done and done[name]["kept"]:
            print(f"{name}: is there already", file=sys.stderr)
            continue
        print(f"{name} ...", file=sys.stderr)
        started_s = time.monotonic()
        row = run_row(name, scale)
        done[name] = {**asdict(row), "kept": row.kept, "took_s": round(time.monotonic() - started_s, 1)}
        out.parent.mkdir(parents=True, exist_ok=True)
        ordered = {row_name: done[row_name] for row_name in ROWS if row_name in done}
        out.write_text(json.dumps({"scale": scale, "rows": ordered}, indent=2) + "\n")
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
