"""Measures what was promised of the server under load, and says what of it is kept.

    python -m tests.benchmarks.serving                      every row, into docs/results/serving.json: an hour
    python -m tests.benchmarks.serving --row overload       one again; the others stay as they are
    python -m tests.benchmarks.serving --missing            those that the file does not have yet
    python -m tests.benchmarks.serving --show               the table and the plots from the file alone

Run from the root of the repository, on an idle machine. Exit code: 0, whether promises are kept or not.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from edge_server.server.config import ServerConfig
from tests.benchmarks.device_report import machine
from tests.benchmarks.serving import captions, cost, endings, fairness, idle, noop, offline, overload, profile
from tests.benchmarks.serving.elsewhere import PROGRAMS, Line
from tests.benchmarks.serving.row import Context, Row

OUT = Path("docs/results/serving.json")
WIDTH_WITHOUT_TERMINAL = 150


def rows() -> dict[str, Row]:
    """The rows that are measured here, by name, in the order of the table."""
    modules = (offline, captions, fairness, overload, idle, endings, noop, cost, profile)
    return {module.ROW.name: module.ROW for module in modules}


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


def show(report: Mapping[str, Any], out: Path, console: Console) -> None:
    """What was promised, measured, and whether it is met: from the results alone."""
    table = Table(title="What was promised of the server under load")
    for heading in ("row", "what", "asked", "measured", "met"):
        table.add_column(heading, overflow="fold")
    for name, title, lines in _all_lines(report, out):
        for line in [Line(title, "", "not measured", None)] if lines is None else lines:
            met = {True: "yes", False: "[red]no[/red]", None: ""}[line.met]
            table.add_row(name, line.what, line.asked, line.measured, met)
    console.print(table)


def _all_lines(report: Mapping[str, Any], out: Path) -> Iterator[tuple[str, str, Sequence[Line] | None]]:
    for program in PROGRAMS:
        if program.there:
            yield program.name, program.module, program.read(out)
    for name, row in rows().items():
        measured = report["rows"].get(name)
        yield name, row.title, measured and [Line.of(claim) for claim in row.claims(measured["found"])]


def draw(report: Mapping[str, Any], out: Path) -> list[Path]:
    """The plots beside the results, drawn from them alone."""
    pictures = []
    for name, row in rows().items():
        if row.plot is not None and name in report["rows"]:
            pictures.append(out.with_name(f"{out.stem}_{name}.png"))
            row.plot(report["rows"][name]["found"], pictures[-1])
    return pictures


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    known, programs = rows(), {program.name: program for program in PROGRAMS if program.there}
    parser = argparse.ArgumentParser(description="Measure the server under load.")
    parser.add_argument("--model", type=Path, default=ServerConfig().runtime.model)
    parser.add_argument("--out", type=Path, default=OUT, help="results, as JSON; plots are written beside it")
    parser.add_argument(
        "--row", action="append", choices=[*programs, *known], help="only this one; may be repeated"
    )
    parser.add_argument("--missing", action="store_true", help="only rows that the results do not have yet")
    parser.add_argument("--show", action="store_true", help="measure nothing")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, only the rows here: does it work?")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    # Without it, whatever server is looked at just then would outlive this process.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH_WITHOUT_TERMINAL
    context = Context(options.model, options.quick, console, options.seed)

    def wanted(name: str, there: bool) -> bool:
        asked_for = options.row is None or name in options.row
        return asked_for and not options.show and not (options.missing and there)

    for name, program in programs.items():
        if not options.quick and wanted(name, program.results(options.out).exists()):
            console.print(f"{name}: {program.module} ...")
            program.run(context, options.out)
    report = read(options.out)
    for name, row in known.items():
        if wanted(name, name in report["rows"]):
            console.print(f"{name}: {row.title} ...")
            report["rows"][name] = _measured(row, context)
            # After each row: what is measured stays, whatever becomes of the next.
            write(options.out, report)
    draw(report, options.out)
    show(report, options.out, console)


def _measured(row: Row, context: Context) -> dict[str, Any]:
    began_s = time.perf_counter()
    found = uvloop.run(row.measure(context))
    return {
        "found": found,
        "measured": {
            "took_s": time.perf_counter() - began_s,
            "quick": context.quick,
            "seed": context.seed,
            "model": context.model.name,
            "machine": machine()
            | {"batches": ServerConfig().engine.batches, "threads": ServerConfig().runtime.threads},
        },
    }


if __name__ == "__main__":
    main()
