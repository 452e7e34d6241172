"""``edge-server cotrain``: open a round, see how it stands, stop it, promote or discard what came out."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from device_agent.cli.printable import printable
from device_agent.errors import DeviceAgentError
from device_agent.places import resolved_model
from edge_server.cotrain import promotion
from edge_server.cotrain.plan import REHEARSE_SHARE, AggregateName, HeadsName, Plan
from edge_server.cotrain.state import STATUS, begin, load, read_json
from edge_server.errors import ConfigurationError
from edge_server.frontdoor.tls import TlsFiles

app = typer.Typer(
    help="Co-training: devices and the edge learn together.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_USUAL = Plan()
State = Annotated[Path, typer.Option(help="Folder of the round.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]
Reload = Annotated[
    Path | None,
    typer.Option(help="Ready file of the server that serves the model: it is told to read it again."),
]
_STATE = Path("cotrain")
DEFAULT_PORT = 50053
"""Where devices come, if nobody says otherwise."""


@app.command("open")
def open_(
    model: Annotated[Path, typer.Option(help="Model folder to begin with, and to promote into.")] = Path(
        "deploy/models/soundstage-small"
    ),
    state: State = _STATE,
    min_devices: Annotated[int, typer.Option(min=1, help="No step with fewer.")] = _USUAL.min_devices,
    rounds: Annotated[int, typer.Option(min=1, help="Steps.")] = _USUAL.rounds,
    heads: Annotated[
        str, typer.Option(help="What becomes of devices' heads: personal, shared, frozen.")
    ] = _USUAL.heads,
    edge_learns: Annotated[
        bool, typer.Option("--edge-learns/--edge-frozen", help="Whether receivers and LoRA learn.")
    ] = True,
    average_every: Annotated[
        int, typer.Option(min=1, help="Shared heads: steps between averages.")
    ] = _USUAL.average_every,
    aggregate: Annotated[
        str, typer.Option(help="How devices' gradients become one: mean, trimmed.")
    ] = _USUAL.aggregate,
    learning_rate: Annotated[
        float, typer.Option(min=1e-7, max=0.1, help="Peak, at the edge.")
    ] = _USUAL.learning_rate,
    head_rate: Annotated[
        float, typer.Option(min=0.01, max=100.0, help="Heads learn so many times as fast.")
    ] = _USUAL.head_rate,
    keep_edge: Annotated[
        float,
        typer.Option(min=0.0, max=0.95, help="At the end the edge's weights go back so much of their way."),
    ] = _USUAL.keep_edge,
    keep_heads: Annotated[float, typer.Option(min=0.0, max=0.95, help="So do heads.")] = _USUAL.keep_heads,
    rehearse: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="What is not to be forgotten: a data set with a train split (Soundstage), or clips with a "
            "questions.jsonl.",
        ),
    ] = None,
    rehearse_share: Annotated[
        float, typer.Option(min=0.0, max=0.95, help="With --rehearse: its part of each of the edge's steps.")
    ] = REHEARSE_SHARE,
    rehearse_clips: Annotated[
        int, typer.Option(min=1, max=64, help="With --rehearse: clips a step.")
    ] = _USUAL.rehearse_clips,
    rehearse_questions: Annotated[
        int, typer.Option(min=1, max=64, help="With --rehearse: about each.")
    ] = _USUAL.rehearse_questions,
    align: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="With --rehearse: how far devices' own heads begin aligned to what they see.",
        ),
    ] = _USUAL.align,
    clips: Annotated[int, typer.Option(min=1, max=64, help="Clips of a device a step.")] = _USUAL.clips,
    questions: Annotated[int, typer.Option(min=1, max=64, help="About each.")] = _USUAL.questions,
    token_length: Annotated[
        list[int] | None,
        typer.Option(help="One is drawn a step; may be given several times.  [default: 4, 8, 16, 32]"),
    ] = None,
    payload: Annotated[str, typer.Option(help="How tokens go up: float32, float16, int8.")] = _USUAL.payload,
    gradient: Annotated[
        str, typer.Option(help="How gradients come down: float32, float16, int8.")
    ] = _USUAL.gradient,
    deadline_s: Annotated[
        float, typer.Option(min=0.05, help="A step goes on without who is later [s].")
    ] = _USUAL.deadline_s,
    max_devices: Annotated[int, typer.Option(min=1, help="More are turned away.")] = _USUAL.max_devices,
    seed: Annotated[int, typer.Option(min=0, help="Everything random follows from it.")] = _USUAL.seed,
    data: Annotated[
        Path | None, typer.Option(help="Data set whose val split is asked before and after; for promote.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = DEFAULT_PORT,
    threads: Annotated[int, typer.Option(min=1, help="torch computes with.")] = 1,
    metrics: Annotated[
        str | None,
        typer.Option(help="/metrics of the server beside: training waits while its queue is long."),
    ] = None,
    pause_above: Annotated[int, typer.Option(min=0, help="Questions that may wait there.")] = 2,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate of this server, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key, PEM.")] = None,
    tls_ca: Annotated[Path | None, typer.Option(help="Authority of devices' certificates, PEM.")] = None,
    access: Annotated[
        Path | None, typer.Option(help="Access file of the serving server: only who is enrolled takes part.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond this machine without certificates.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Hold a round until it is done; one that was stopped or killed goes on where it was."""
    plan = Plan(
        rounds=rounds,
        min_devices=min_devices,
        max_devices=max(max_devices, min_devices),
        heads=_named(heads),
        edge_learns=edge_learns,
        average_every=average_every,
        aggregate=_aggregate(aggregate),
        learning_rate=learning_rate,
        head_rate=head_rate,
        keep_edge=keep_edge,
        keep_heads=keep_heads,
        rehearse_share=rehearse_share if rehearse is not None else 0.0,
        rehearse_clips=rehearse_clips,
        rehearse_questions=rehearse_questions,
        align=align if rehearse is not None else 0.0,
        clips=clips,
        questions=questions,
        token_lengths=tuple(token_length) if token_length else _USUAL.token_lengths,
        payload=payload,
        gradient=gradient,
        deadline_s=deadline_s,
        seed=seed,
    )
    if (tls_cert is None) != (tls_key is None):
        raise ConfigurationError("tls_cert, tls_key: a certificate needs its key")
    if tls_cert is None and host not in ("127.0.0.1", "::1", "localhost") and not insecure:
        raise ConfigurationError(
            f"host: {host} is open to others and nothing is encrypted; give --tls-cert, --tls-key, --tls-ca "
            "and --access, or --insecure"
        )
    from edge_server.cotrain.process import Surroundings, hold_round, lower_priority  # torch takes seconds

    lower_priority(beside=metrics is not None)
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    ) as bar:
        task = bar.add_task("co-training", total=rounds, note="")

        def show(status: dict[str, Any]) -> None:
            bar.update(task, completed=status["step"], note=_note(status))

        def ready(bound: int) -> None:
            told = {"port": bound, "round_id": found.round_id, "state": str(state)}
            if as_json:
                typer.echo(json.dumps(told))
            else:
                console.print(f"round {found.round_id}: devices come to {host}:{bound}")

        around = Surroundings(
            host=host,
            port=port,
            threads=threads,
            tls=TlsFiles(tls_cert, tls_key, tls_ca) if tls_cert and tls_key else None,
            access=access,
            metrics=metrics,
            pause_above=pause_above,
            data=data,
            rehearse=rehearse if rehearse_share > 0.0 or align > 0.0 else None,
            ready=ready,
            progress=show,
        )
        try:
            found = begin(state, plan, resolved_model(model))
            reason, report = asyncio.run(hold_round(found, around))
        except DeviceAgentError as error:
            raise ConfigurationError(str(error)) from error
    if as_json:
        typer.echo(json.dumps({"reason": reason, "report": report}))
    else:
        typer.echo(f"round {found.round_id}: {reason}")
        if report:
            _show_report(Console(highlight=False), report)


@app.command()
def status(state: State = _STATE, as_json: Json = False) -> None:
    """How a round stands: its step, and each device's loss and part in it."""
    found = load(state)
    told = read_json(found.path(STATUS))
    report = read_json(found.path(promotion.REPORT))
    if as_json:
        promoted = found.path(promotion.PROMOTED).exists()
        typer.echo(json.dumps({"status": told, "report": report, "promoted": promoted}))
        return
    console = Console(highlight=False)
    console.print(
        f"round {found.round_id}: {told.get('phase', 'not begun')}, step {told.get('step', 0)} of "
        f"{found.plan.rounds}"
    )
    table = Table(box=None)
    for heading in (
        "device",
        "here",
        "steps",
        "missed",
        "late",
        "refused",
        "loss",
        "right",
        "held out before",
    ):
        table.add_column(heading)
    for device, row in told.get("devices", {}).items():
        before = row["examined"].get("before")
        table.add_row(
            printable(device),
            "yes" if row["connected"] else "no",
            *(str(row[name]) for name in ("steps", "missed", "late", "refused")),
            *("" if row[name] is None else f"{row[name]:.3f}" for name in ("loss", "right")),
            "" if before is None else f"{before['accuracy']:.1%}",
        )
    console.print(table)
    for device, how in told.get("named", {}).items():
        console.print(printable(f"left out: {device}: {how}"))
    if report:
        _show_report(console, report)


@app.command()
def stop(state: State = _STATE, as_json: Json = False) -> None:
    """Stop a round after its present step; `open` goes on with it."""
    found = load(state)
    found.stop()
    typer.echo(json.dumps({"stopping": found.round_id}) if as_json else f"round {found.round_id} stops")


@app.command()
def promote(
    state: State = _STATE,
    allow_loss: Annotated[
        float, typer.Option(min=0.0, max=100.0, help="Points of accuracy that may be lost.")
    ] = 0.0,
    sign: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Sign new bundles, with a key of `certs bundle-key`.")
    ] = None,
    reload: Reload = None,
    as_json: Json = False,
) -> None:
    """Put what came out in the model's place, unless anything got worse."""
    found = load(state)
    pid = promotion.pid_of(reload) if reload is not None else None
    promotion.promote(found, allowed=allow_loss / 100.0, sign=sign, reload=pid)
    if as_json:
        typer.echo(json.dumps({"promoted": found.round_id, "model": str(found.model)}))
        return
    hint = "" if pid is not None else "; a server that serves it reads it at SIGHUP"
    typer.echo(f"{found.model} is now what round {found.round_id} made{hint}")


@app.command()
def discard(state: State = _STATE, reload: Reload = None, as_json: Json = False) -> None:
    """Remove a round; where it was promoted, the model is again what it was before."""
    found = load(state)
    pid = promotion.pid_of(reload) if reload is not None else None
    back = promotion.discard(found, reload=pid)
    if as_json:
        typer.echo(json.dumps({"discarded": found.round_id, "rolled_back": back}))
        return
    typer.echo(f"round {found.round_id} is gone" + (f"; {found.model} is as before" if back else ""))


def _named(heads: str) -> HeadsName:
    return heads  # type: ignore[return-value]  # Plan checks it, and says what is allowed


def _aggregate(how: str) -> AggregateName:
    return how  # type: ignore[return-value]  # likewise


def _note(status: dict[str, Any]) -> str:
    losses = [row["loss"] for row in status["devices"].values() if row["loss"] is not None]
    here = sum(row["connected"] for row in status["devices"].values())
    mean = f" loss {sum(losses) / len(losses):.3f}" if losses else ""
    return f"{status['phase']}, {here} devices{mean}"


def _show_report(console: Console, report: dict[str, Any]) -> None:
    table = Table(box=None)
    for heading in ("device", "held out before", "after", "validation before", "after"):
        table.add_column(heading)
    for device, row in report["devices"].items():
        cells = []
        held_out, validation = row.get("held_out", {}), row.get("validation", {})
        for when in ("before", "after"):
            cells.append(f"{held_out[when]['accuracy']:.1%}" if when in held_out else "")
        for when in ("before", "after"):
            cells.append(f"{validation[when]:.1%}" if when in validation else "")
        table.add_row(printable(device), *cells)
    console.print(table)
    losses = promotion.worse(report)
    for loss in losses:
        console.print(printable(loss))
    if not losses:
        console.print("nothing got worse: `edge-server cotrain promote` puts it into service")
    sys.stdout.flush()
