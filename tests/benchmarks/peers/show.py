"""The comparison as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.peers.summary import rows

_MS = 1e3


def show(result: Mapping[str, Any], console: Console) -> None:
    """A table per workload, who could not run, and the promises."""
    contestants = {each["name"]: each for each in result["contestants"]}
    for workload, said in result["workloads"].items():
        table = Table(title=f"{result['model']}: {said}; {result['effort']['users']} users")
        headings = ("server", "setup", "answers/s", "with the library's class", "CPU ms each")
        for heading in (*headings, "p50 ms", "p99 ms", "other answers"):
            table.add_column(heading, justify="left" if heading in ("server", "setup") else "right")
        closed, library, opened = (result[phase][workload] for phase in ("closed", "library", "open"))
        for name, figures in sorted(closed.items(), key=lambda item: -item[1]["answered_hz"]["median"]):
            who = contestants[name]
            latency = opened.get(name, {})
            eager = library.get(name)
            table.add_row(
                f"{who['label']} {who['version']}".strip(),
                _setup(who.get("kept")),
                _spread(figures["answered_hz"], 1.0),
                _spread(eager["answered_hz"], 1.0) if eager else "",
                _spread(figures["cpu_s_per_question"], _MS, digits=2),
                _spread(latency["p50_s"], _MS, digits=1) if latency else "",
                _spread(latency["p99_s"], _MS, digits=1) if latency else "",
                str(figures["wrong"] + latency.get("wrong", 0)),
            )
        console.print(table)
        rate_hz = result["open_rates_hz"].get(workload)
        if rate_hz is not None:
            console.print(f"latencies: open loop, {rate_hz:.0f} questions/s")
    for each in result["contestants"]:
        if each["could_not_run"]:
            console.print(f"{each['label']} could not be run here: {each['could_not_run']}")
    table = Table(title="promises")
    for heading in ("what", "asked", *result["workloads"], "met"):
        table.add_column(heading)
    for row in rows(result):
        measured = row.get("measured", {})
        cells = [f"{measured[name]:.2f}" if name in measured else "" for name in result["workloads"]]
        met = {True: "yes", False: "no", None: row.get("missing", "")}[row["met"]]
        table.add_row(row["row"], row["asked"], *cells, met)
    console.print(table)


def _setup(kept: Mapping[str, Any] | None) -> str:
    if kept is None:
        return ""
    size = f"{kept['workers']} x {kept['threads']}, batch {kept['max_batch']}"
    return ", ".join((size, f"wait {_MS * kept['wait_s']:g} ms", *map(str.lower, kept["environment"])))


def _spread(found: Mapping[str, Any], scale: float, digits: int = 0) -> str:
    middle, low, high = (f"{scale * found[key]:.{digits}f}" for key in ("median", "low", "high"))
    return middle if len(found["values"]) == 1 else f"{middle} ({low} to {high})"
