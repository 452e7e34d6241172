"""A load test on the terminal: a line while it runs, a table at its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from deploy.loadtest.measurement import Measurement, together
from deploy.loadtest.profile import Phase
from deploy.loadtest.running import Report, Watch

_REFRESH_S = 0.5


def watch_on(console: Console) -> Watch:
    """Follows phases with one line on a terminal; without a terminal nothing is shown meanwhile."""

    @asynccontextmanager
    async def follow(phase: Phase, measurements: Sequence[Measurement]) -> AsyncIterator[None]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[now]}"),
        )
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(phase.name, total=phase.seconds, now="")

            async def refresh() -> None:
                answered = 0
                while True:
                    await asyncio.sleep(_REFRESH_S)
                    counted = together(measurements)
                    rate_hz = (counted.outcomes["answered"] - answered) / _REFRESH_S
                    answered = counted.outcomes["answered"]
                    bar.update(task, advance=_REFRESH_S, now=_now(counted, rate_hz))

            refreshing = asyncio.create_task(refresh())
            try:
                yield
            finally:
                refreshing.cancel()

    return follow


def _now(counted: Measurement, rate_hz: float) -> str:
    on_their_way = counted.sent - counted.ended
    bad = counted.outcomes["failed"] + counted.outcomes["expired"]
    latency = f"p50 {_ms(counted, 50)} p99 {_ms(counted, 99)} ms"
    return (
        f"{rate_hz:.0f}/s answered, {latency}, {on_their_way} on their way, "
        f"{counted.refusals} refused, {counted.held_back} held back, {bad} failed, {counted.dropped} dropped"
    )


def _ms(counted: Measurement, percentile: float) -> str:
    return f"{1e3 * counted.latencies.at(percentile):.1f}" if len(counted.latencies) else "–"


def show(report: Report, console: Console) -> None:
    """The report as a table, and what does not hold."""
    table = Table(title=report.profile.summary)
    for heading in ("phase", "users", "offered/s", "sent/s", "answered/s", "p50 ms", "p99 ms", "p99.9 ms"):
        table.add_column(heading, justify="left" if heading in ("phase", "users") else "right")
    for heading in ("refused", "held back", "failed", "dropped", "lag p99 ms"):
        table.add_column(heading, justify="right")
    for result in report.phases:
        names = list(result.measurements)
        for name in names if len(names) > 2 else names[:1]:
            found = result.measurements[name]
            table.add_row(
                result.phase.name,
                f"{found.users} {name}" if name != "users" else str(found.users),
                f"{found.offered / found.seconds:.1f}",
                f"{found.sent / found.seconds:.1f}",
                f"{found.answered_hz:.1f}",
                *(_ms(found, percentile) for percentile in (50, 99, 99.9)),
                str(found.outcomes["refused"]),
                str(found.held_back),
                str(found.outcomes["failed"] + found.outcomes["expired"]),
                str(found.dropped),
                f"{1e3 * found.lag.at(99):.1f}" if len(found.lag) else "–",
            )
    console.print(table)
    opened = report.connected
    console.print(f"{len(opened)} users connected; p99 {1e3 * opened.at(99):.0f} ms", highlight=False)
    for complaint in report.broken:
        console.print(f"[red]does not hold[/red]: {complaint}", highlight=False)
