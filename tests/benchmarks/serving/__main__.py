"""Measures what was promised of the server under load, and says what of it is kept.

    python -m tests.benchmarks.serving                      every row, into docs/results/serving.json: an hour
    python -m tests.benchmarks.serving --row overload       one again; the others stay as they are
    python -m tests.benchmarks.serving --missing            those that the file does not have yet
    python -m tests.benchmarks.serving --show               the table and the plots from the file alone

Run from the root of the repository, on an idle machine. Exit code: 0, whether promises are kept or not.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from edge_server.config import ServerConfig
from tests.benchmarks.device_report import machine
from tests.benchmarks.serving import captions, cost, endings, fairness, idle, noop, offline, overload
from tests.benchmarks.serving.row import Claim, Context, Row

OUT = Path("docs/results/serving.json")
ELSEWHERE = ("tests.benchmarks.peers.rows",)
"""Modules with further rows, in ``ROWS``; each counts if it is there."""


def rows() -> dict[str, Row]:
    """All rows by name, in the order of the table."""
    found: list[Row] = [
        offline.ROW,
        captions.ROW,
        fairness.ROW,
        overload.ROW,
        idle.ROW,
        endings.ROW,
        noop.ROW,
        cost.ROW,
    ]
    for name in ELSEWHERE:
        package = name.rpartition(".")[0]
        if importlib.util.find_spec(package) and importlib.util.find_spec(name):
            found += importlib.import_module(name).ROWS
    return {row.name: row for row in found}


def read(path: Path) -> dict[str, Any]:
    """What was measured before; empty where nothing was."""
    if not path.exists():
        return {"rows": {}}
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return report


def write(path: Path, report: Mapping[str, Any]) -> None:
    """Write the results, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)


def show(report: Mapping[str, Any], known: Mapping[str, Row], console: Console) -> None:
    """What was promised, measured, and whether it is met: from the results alone."""
    table = Table(title="What was promised of the server under load")
    for heading in ("row", "what", "asked", "measured", "met"):
        table.add_column(heading, overflow="fold")
    for name, row in known.items():
        if name not in report["rows"]:
            table.add_row(name, row.title, "", "not measured", "")
            continue
        for claim in row.claims(report["rows"][name]["found"]):
            table.add_row(
                name, claim.text, *_asked_and_measured(claim), "yes" if claim.met else "[red]no[/red]"
            )
    console.print(table)


def _asked_and_measured(claim: Claim) -> tuple[str, str]:
    unit = f" {claim.unit}" if claim.unit else ""
    return f"{claim.sense} {claim.limit:g}{unit}", f"{claim.measured:.3g}{unit}"


def draw(report: Mapping[str, Any], known: Mapping[str, Row], out: Path) -> list[Path]:
    """The plots beside the results, drawn from them alone."""
    pictures = []
    for name, row in known.items():
        if row.plot is not None and name in report["rows"]:
            pictures.append(out.with_name(f"{out.stem}_{name}.png"))
            row.plot(report["rows"][name]["found"], pictures[-1])
    return pictures


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    known = rows()
    parser = argparse.ArgumentParser(description="Measure the server under load.")
    parser.add_argument("--model", type=Path, default=ServerConfig().model)
    parser.add_argument("--out", type=Path, default=OUT, help="results, as JSON; plots are written beside it")
    parser.add_argument("--row", action="append", choices=[*known], help="only this one; may be repeated")
    parser.add_argument("--missing", action="store_true", help="only rows that the results do not have yet")
    parser.add_argument("--show", action="store_true", help="measure nothing")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it work?")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 150
    report = read(options.out)
    context = Context(options.model, options.quick, console, options.seed)
    for name, row in known.items():
        wanted = not options.show and (options.row is None or name in options.row)
        if not wanted or (options.missing and name in report["rows"]):
            continue
        console.print(f"{name}: {row.title} ...")
        began_s = time.perf_counter()
        found = uvloop.run(row.measure(context))
        report["rows"][name] = {
            "found": found,
            "measured": {
                "took_s": time.perf_counter() - began_s,
                "quick": options.quick,
                "seed": options.seed,
                "model": options.model.name,
                "machine": machine() | {"threads": ServerConfig().threads},
            },
        }
        # After each row: what is measured stays, whatever becomes of the next.
        write(options.out, report)
    draw(report, known, options.out)
    show(report, known, console)


if __name__ == "__main__":
    main()
