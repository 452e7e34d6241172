"""``device-agent outbox``: look at what waits for the network, send it, drop it; and ``ask --spool``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from device_agent.bundle.bundle import Bundle, load_bundle
from device_agent.cli.flags import with_settings
from device_agent.cli.printable import line_of, printable
from device_agent.cli.show import seconds, windowed
from device_agent.compose import open_spooler, spooled
from device_agent.config import DeviceSettings
from device_agent.errors import ConfigurationError, DeadlineError, RefusedError
from device_agent.media.clip import Clip
from device_agent.outbox.outbox import Outbox
from device_agent.outbox.records import Delivery, Entry
from device_agent.outbox.relay import POLL_S, together
from device_agent.outbox.store import Spool
from device_agent.outcome import Outcome

app = typer.Typer(help="Questions that wait for the network.", no_args_is_help=True)

ASKED = "ask "
"""The source of a question that ``ask --spool`` put in begins with this; its request_id follows."""

SHOWN_OF_ID = 8
"""So many characters of an id are listed; they are enough for commands that take one."""

Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]


async def ask_spooled(
    settings: DeviceSettings, bundle: Bundle, question: str, clip: Clip, context: str | None
) -> Outcome:
    """Ask one question through the outbox: it is on disk before it is sent, and stays there without an
    answer.

    Raises:
        DeadlineError: no answer within the settings' deadline; the question waits on in the outbox.
        RefusedError: it ended without an answer.
        DeviceAgentError: any other of the tree.
    """
    async with (
        Outbox(settings.outbox_path(), settings.bounds()) as outbox,
        open_spooler(settings, bundle, outbox) as (agent, spooler),
    ):
        grant = await spooler.grant(agent.grant, agent.usual_grant())
        prepared = await agent.prepare_for_later(question, clip, grant, context=context)
        source = ASKED + prepared.question.request_id
        await outbox.call(Spool.put, spooled(prepared, clip, source, question, question))
        arrived: list[Delivery] = []

        async def answer() -> None:
            with outbox.changes() as changed:
                while not await spooler.deliver_ready(source, arrived.append):
                    await _change(changed)

        try:
            async with asyncio.timeout(settings.deadline_s):
                await together(spooler.send(), answer())
        except TimeoutError as error:
            raise DeadlineError(
                f"no answer within {settings.deadline_s:g} s; the question waits in {outbox.path} "
                "(device-agent outbox flush)"
            ) from error
    (delivery,) = arrived
    if delivery.outcome != "answered":
        raise RefusedError(str(delivery.record["error"]))
    return Outcome.from_json(delivery.record)


@app.command("list")
@with_settings("outbox")
def list_(
    settings: DeviceSettings,
    delivered: Annotated[
        bool, typer.Option("--all", help="What was delivered too, as far as it is kept.")
    ] = False,
    as_json: Json = False,
) -> None:
    """What waits, what has come and was not shown yet, and how questions have ended so far."""
    spool = Spool(settings.outbox_path(), settings.bounds())
    try:
        entries, counts = spool.entries(delivered=delivered), spool.counts()
    finally:
        spool.close()
    if as_json:
        found = {"outbox": str(settings.outbox_path()), "counts": counts}
        typer.echo(json.dumps({**found, "questions": [asdict(entry) for entry in entries]}))
    else:
        _show_entries(Console(highlight=False), entries, counts, time.time())


@app.command()
@with_settings("server", "bundle", "device_id", "outbox")
def flush(
    settings: DeviceSettings,
    timeout_s: Annotated[float, typer.Option(min=0.1, help="Stop after so many seconds.")] = 60.0,
    as_json: Json = False,
) -> None:
    """Send what waits, and show every outcome that was not shown; they count as delivered then."""
    bundle = load_bundle(settings.bundle)

    def show(delivery: Delivery) -> None:
        if as_json:
            typer.echo(json.dumps({"source": delivery.source, "label": delivery.label, **delivery.to_json()}))
        elif "answer" in delivery.record:
            typer.echo(f"{line_of(delivery.label)}: {printable(windowed(delivery.record))}")
        else:
            said = printable(f"{delivery.outcome}: {delivery.record.get('error', '')}")
            typer.echo(f"{line_of(delivery.label)}: {said}", err=True)

    async def run() -> int:
        async with (
            Outbox(settings.outbox_path(), settings.bounds()) as outbox,
            open_spooler(settings, bundle, outbox) as (_, spooler),
        ):

            async def empty() -> None:
                with outbox.changes() as changed:
                    while (await outbox.call(Spool.counts))["waiting"]:
                        await _change(changed)

            try:
                async with asyncio.timeout(timeout_s):
                    await together(spooler.send(), empty())
            except TimeoutError:
                pass  # what has come is shown; what waits is said below
            for source in await outbox.call(Spool.sources):
                # While another agent sends, it shows what it watches.
                if outbox.lead() or source.startswith(ASKED):
                    await spooler.deliver_ready(source, show)
            return (await outbox.call(Spool.counts))["waiting"]

    waiting = asyncio.run(run())
    if waiting:
        raise DeadlineError(f"{waiting} questions still wait after {timeout_s:g} s")


@app.command()
@with_settings("outbox")
def drop(
    settings: DeviceSettings,
    request_ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[REQUEST_ID]...", help="As listed; the first characters will do."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All that wait.")] = False,
    as_json: Json = False,
) -> None:
    """Take questions that wait out of the outbox; reported as removed to whoever asked them."""
    if bool(request_ids) == every:
        raise ConfigurationError("outbox drop: name request ids, or give --all")
    spool = Spool(settings.outbox_path(), settings.bounds())
    try:
        dropped = spool.drop(None if every else _whole_ids(spool, request_ids or []))
    finally:
        spool.close()
    typer.echo(json.dumps({"dropped": dropped}) if as_json else f"{dropped} dropped")


def _whole_ids(spool: Spool, shortened: Sequence[str]) -> list[str]:
    known = [entry.request_id for entry in spool.entries()]
    whole = []
    for begin in shortened:
        found = [request_id for request_id in known if request_id.startswith(begin)]
        if len(found) > 1 and begin not in found:
            raise ConfigurationError(f"outbox drop: {len(found)} ids begin with {begin!r}; write more of it")
        whole.append(begin if begin in found or not found else found[0])
    return whole


async def _change(changed: asyncio.Event) -> None:
    """Wait until something changed here, or it is time to look what another process did."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(POLL_S):
            await changed.wait()
    changed.clear()


def _show_entries(console: Console, entries: list[Entry], counts: Mapping[str, Any], now_s: float) -> None:
    if entries:
        table = Table(box=None)
        for heading in ("number", "request", "from", "about", "state", "asked", "bytes", "outcome"):
            whole = heading in ("number", "request", "state", "bytes")
            table.add_column(heading, overflow="fold", no_wrap=whole)
        for entry in entries:
            said = entry.record.get("answer", entry.record.get("error", ""))
            table.add_row(
                *(str(entry.number), entry.request_id[:SHOWN_OF_ID]),
                *(Text(printable(each)) for each in (entry.source, entry.label, entry.state)),
                *(f"{seconds(max(now_s - entry.created_at_s, 0.0))} ago", str(entry.bytes)),
                Text(printable(f"{entry.outcome}: {said}") if entry.outcome else ""),
            )
        console.print(table)
    console.print(" · ".join(f"{count} {name}" for name, count in counts.items()))
