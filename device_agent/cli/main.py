"""The command line: ask, watch, share, outbox, cotrain, correct, bench, doctor, pull.

The one place that turns errors into exit codes and messages; see :mod:`device_agent.errors`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from device_agent.bench import Report, measure
from device_agent.bundle.bundle import Bundle, Precision, load_bundle
from device_agent.cli.conventions import HELP, INTERRUPTED, MARKUP
from device_agent.cli.cotrain import correct, cotrain
from device_agent.cli.flags import BUNDLES, LINK_SECURITY, with_settings
from device_agent.cli.outbox import app as outbox_app
from device_agent.cli.outbox import ask_spooled
from device_agent.cli.printable import line_of, printable, set_up_output, told_where_output_ends
from device_agent.cli.share import scene_of, share
from device_agent.cli.show import (
    show_cost,
    show_findings,
    show_report,
    show_scenes,
    show_window,
    window_line,
    windowed,
)
from device_agent.cli.shown import clips_of, named_media
from device_agent.compose import open_agent, uplink_for
from device_agent.config import DeviceSettings
from device_agent.doctor.doctor import Equipment, examine
from device_agent.errors import ConfigurationError, DeviceAgentError
from device_agent.media.clip import Clip, MediaKind
from device_agent.media.sandbox import MediaPool
from device_agent.media.windows import asked_for
from device_agent.outcome import Outcome
from device_agent.places import is_file
from device_agent.sources.folder import looks_like_path
from device_agent.sources.watching import watch_folder
from device_agent.updating import fetch
from device_agent.uplink.backoff import Backoff
from device_agent.version import agent_version
from protos.tokenlink.v1 import tokenlink_pb2 as pb

app = typer.Typer(
    help="Ask a model at the wireless edge about what this device sees and hears.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=MARKUP,
    context_settings=HELP,
)

USAGE_ERRORS: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
"""Root of what Typer raises about a command line; which package it is from depends on Typer's release."""

app.add_typer(outbox_app, name="outbox")
app.command("cotrain")(cotrain)
app.command("correct")(correct)

Json = Annotated[bool, typer.Option("--json", help="One JSON object per answer on standard output.")]
Context = Annotated[str | None, typer.Option(help="Text that goes with the question (a caption, notes).")]

WindowOption = Annotated[
    str | None,
    typer.Option(
        "--window", metavar="START..END", help="The part of a file to ask about: 12..16, 1:30.. [s]."
    ),
]
Every = Annotated[
    bool, typer.Option("--every", help="Ask about one window after the other, to the file's end.")
]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"device-agent {agent_version()}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version, and go."),
    ] = False,
) -> None:
    """Ask a model at the wireless edge about what this device sees and hears."""


@app.command()
@with_settings(outbox=True)
def ask(
    settings: DeviceSettings,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE]... QUESTION",
            help="Media files, or other sources as SCHEME:WHERE; the question last.",
        ),
    ] = None,
    question: Annotated[
        str | None, typer.Option(help="The question, where it could be taken for a file; the rest are files.")
    ] = None,
    image: Annotated[Path | None, typer.Option(help="A picture.")] = None,
    audio: Annotated[Path | None, typer.Option(help="A recording; of a video, its sound only.")] = None,
    video: Annotated[Path | None, typer.Option(help="A video, with its sound track if it has one.")] = None,
    camera: Annotated[str | None, typer.Option(help="Record from a camera, such as /dev/video0.")] = None,
    microphone: Annotated[str | None, typer.Option(help="Record from a microphone, such as default.")] = None,
    context: Context = None,
    window: WindowOption = None,
    every: Every = False,
    scene: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DEVICE[@WHEN][:MODALITY]",
            help="Ask about what a device shared, in place of files: camera-1, camera-1@-90, porch:video.",
        ),
    ] = None,
    spool: Annotated[
        bool, typer.Option("--spool", help="Keep the question in the outbox until its answer has come.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Ask one QUESTION about files, a recording, or text alone; prints the answer and what it cost."""
    files, question = _files_and_question(inputs or [], question)
    bundle = load_bundle(settings.bundle)
    if scene:
        if files or spool or every or window or context or any((image, audio, video, camera, microphone)):
            raise ConfigurationError("scene: goes with a question alone, and no files, context or --spool")
        return _answer_about(settings, bundle, question, [scene_of(each) for each in scene], as_json=as_json)
    spec = bundle.media_spec()
    if every and spool:
        raise ConfigurationError("every: goes without --spool; device-agent watch asks so through the outbox")
    named: dict[MediaKind, Path | None] = {"image": image, "audio": audio, "video": video}
    recorders = {"camera": camera, "microphone": microphone}
    asked = asked_for(window, every, spec.window_s)
    with MediaPool(1, settings.media) as decoding:
        clips = clips_of(named_media(files, named, recorders, spec, decoding), asked, spec)
        _answer(settings, bundle, question, clips, context, every=every, spool=spool, as_json=as_json)


def _answer_about(
    settings: DeviceSettings, bundle: Bundle, question: str, scenes: list[pb.SceneRef], *, as_json: bool
) -> None:
    console = Console(highlight=False)

    async def run() -> Outcome:
        show = None if as_json else lambda text: console.print(Text(printable(text), style="bold"), end="")
        async with open_agent(settings, bundle) as agent:
            return await agent.ask_about(question, scenes, on_delta=show)

    outcome = asyncio.run(run())
    if as_json:
        typer.echo(json.dumps(outcome.to_json()))
    else:
        console.print()
        show_cost(console, outcome)
        show_scenes(console, outcome)


def _answer(
    settings: DeviceSettings,
    bundle: Bundle,
    question: str,
    clips: Iterator[Clip],
    context: str | None,
    *,
    every: bool,
    spool: bool,
    as_json: bool,
) -> None:
    # Before there is a connection: what cannot be shown is said first.
    first = next(clips)
    console = Console(highlight=False)

    async def run() -> None:
        if spool:
            outcome = await ask_spooled(settings, bundle, question, first, context)
            if not as_json:
                console.print(Text(printable(outcome.text), style="bold"), end="")
            return finish(outcome)
        async with open_agent(settings, bundle) as agent:
            show = (
                None if as_json else lambda text: console.print(Text(printable(text), style="bold"), end="")
            )
            clip: Clip | None = first
            while clip is not None:
                if every and not as_json:
                    console.print(Text(window_line(clip.window), style="dim"))
                finish(await agent.ask(question, clip, context=context, on_delta=show))
                clip = await asyncio.to_thread(next, clips, None)

    def finish(outcome: Outcome) -> None:
        if as_json:
            typer.echo(json.dumps(outcome.to_json()))
        else:
            console.print()
            show_cost(console, outcome)
            if not every:
                show_window(console, outcome)

    asyncio.run(run())


def _files_and_question(inputs: list[str], question: str | None) -> tuple[list[str], str]:
    if question is not None:
        return inputs, question
    if not inputs:
        raise ConfigurationError("question: is missing; ask device-agent ask [FILE]... QUESTION")
    *files, question = inputs
    if is_file(Path(question)):
        raise ConfigurationError(f"question: the last argument is the question, but {question!r} is a file")
    if looks_like_path(question):
        raise ConfigurationError(
            f"question: the last argument is the question, but {question!r} looks like a file that is "
            "not there; a question that looks so: --question"
        )
    return files, question


@app.command()
@with_settings(outbox=True)
def watch(
    settings: DeviceSettings,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to watch.")],
    question: Annotated[str, typer.Argument(help="Asked about every file.")],
    context: Context = None,
    state: Annotated[
        Path | None,
        typer.Option(
            help="Where an earlier version remembered; the outbox is kept beside it, if none is set."
        ),
    ] = None,
    poll_s: Annotated[float, typer.Option(min=0.05, help="Seconds between two looks.")] = 0.5,
    window: WindowOption = None,
    every: Every = False,
    as_json: Json = False,
) -> None:
    """Answer QUESTION about every file that appears in DIR, each once; Ctrl-C or SIGTERM ends it.

    Questions are kept in the outbox until they are answered, through cut links, restarts and kills.
    """

    def report(path: Path, record: dict[str, Any]) -> None:
        if as_json:
            typer.echo(json.dumps({"file": str(path), **record}))
        elif "error" in record:
            typer.echo(f"{line_of(path.name)}: {printable(record['error'])}", err=True)
        else:
            typer.echo(f"{line_of(path.name)}: {printable(windowed(record))}")

    asyncio.run(
        watch_folder(
            settings,
            folder,
            question,
            report,
            context=context,
            state=state,
            poll_s=poll_s,
            window=window,
            every=every,
        )
    )


app.command("share")(share)


@app.command()
@with_settings()
def bench(
    settings: DeviceSettings,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A media file.")],
    question: Annotated[str, typer.Argument(help="Asked each time.")],
    repeats: Annotated[int, typer.Option(min=2, help="Questions at each token length.")] = 10,
    out: Annotated[Path | None, typer.Option(help="Write the figures here as JSON.")] = None,
    as_json: Json = False,
) -> None:
    """Measure what this device pays for an answer at every token length: time, bytes, symbols, memory."""
    bundle = load_bundle(settings.bundle)
    with MediaPool(1, settings.media) as decoding:
        clip = decoding.clip_from_file(file, spec=bundle.media_spec())

    async def run() -> Report:
        async with open_agent(settings, bundle) as agent:
            await agent.grant_in_time()  # whether it can be reached is found out before anything is shown
            with Progress(console=Console(stderr=True)) as bar:
                task = bar.add_task("questions", total=None)
                return await measure(
                    agent,
                    bundle,
                    question,
                    clip,
                    repeats=repeats,
                    threads=settings.threads,
                    advance=lambda done, total: bar.update(task, completed=done, total=total),
                )

    report = asyncio.run(run())
    text = json.dumps(report.to_json(), indent=2)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")
    if as_json:
        typer.echo(text)
    else:
        show_report(Console(highlight=False), report)


@app.command()
@with_settings(
    "server",
    "bundle",
    "device_id",
    "threads",
    "provider",
    "channel",
    "trace",
    "snr_db",
    "outbox",
    *LINK_SECURITY,
)
def doctor(
    settings: DeviceSettings,
    camera: Annotated[str | None, typer.Option(help="A camera that has to work.")] = None,
    microphone: Annotated[str | None, typer.Option(help="A microphone that has to work.")] = None,
    least_free_mib: Annotated[int, typer.Option(min=0, help="Room that the outbox's disk must have.")] = 64,
    as_json: Json = False,
) -> None:
    """Check this device, the way to the server, and what the server says; exit code 1 if something fails."""
    equipment = Equipment(camera, microphone, least_free_mib * 2**20)

    async def run() -> bool:
        findings = await examine(
            settings, lambda hash_: uplink_for(settings, hash_, backoff=Backoff(retries=1)), equipment
        )
        if as_json:
            typer.echo(json.dumps([asdict(finding) for finding in findings]))
        else:
            show_findings(Console(highlight=False), findings)
        return all(finding.state != "failure" for finding in findings)

    if not asyncio.run(run()):
        raise typer.Exit(1)


@app.command()
@with_settings("server", "bundle", "retries", *BUNDLES, *LINK_SECURITY)
def pull(
    settings: DeviceSettings,
    bundle_hash: Annotated[str, typer.Option(help="The bundle that it has to be; else the server's.")] = "",
    precision: Annotated[
        Precision | None, typer.Option(help="What its encoders compute with.  [default: fp32]")
    ] = None,
    model: Annotated[
        str, typer.Option(help="Whose, of the models that the server has beside one another; else its first.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Fetch the device bundle from the server, verify it, and install it in place of the old one."""

    async def pulled() -> Bundle:
        async with uplink_for(settings, "") as uplink:
            return await fetch(
                uplink,
                settings.bundle,
                bundle_hash,
                precision,
                model=model,
                acceptance=settings.acceptance(),
                within_s=settings.fetch_within_s,
            )

    bundle = asyncio.run(pulled())
    if as_json:
        values = {"folder": str(bundle.folder), "bundle_hash": bundle.hash, "name": bundle.manifest.name}
        typer.echo(json.dumps(values))
    else:
        typer.echo(line_of(f"{bundle.manifest.name} {bundle.hash[:12]} installed in {bundle.folder}"))


@app.command("enrol")
@with_settings("identity", "server_name", "use_proxy")
def enrol_(
    settings: DeviceSettings,
    server: Annotated[str, typer.Option(help="Enrolment door of the edge server, host:port.")],
    token: Annotated[
        str, typer.Option(help="From `edge-server enrol-token`; - reads it from standard input.")
    ],
    as_json: Json = False,
) -> None:
    """Get a certificate for this device with a one-time token; its key is made here and stays here."""
    from device_agent.enrol import enrol  # only here is anything signed

    text = sys.stdin.readline() if token == "-" else token  # noqa: S105 (standard input, as is the custom)
    identity = asyncio.run(
        enrol(
            server,
            text,
            settings.identity,
            server_name=settings.server_name,
            use_proxy=settings.use_proxy,
        )
    )
    if as_json:
        typer.echo(json.dumps({"device_id": identity.device_id, "folder": str(identity.folder)}))
    else:
        said = f"enrolled as {identity.device_id}; key and certificate are in {identity.folder}"
        typer.echo(printable(said))


def main() -> None:
    """The ``device-agent`` command: errors become one message and an exit code.

    With ``--json`` the message is an object on standard output, as answers are.
    """
    set_up_output()
    with told_where_output_ends("device-agent"):
        if "--json" in sys.argv:
            sys.exit(_main_in_json())
        try:
            app()
        except DeviceAgentError as error:
            typer.echo(f"device-agent: {printable(str(error))}", err=True)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)


def _main_in_json() -> int:
    command = typer.main.get_command(app)
    message, kind = "interrupted", "Interrupted"
    try:
        code = int(command.main(standalone_mode=False) or 0)
    except typer.Exit as end:
        code = end.exit_code
    except DeviceAgentError as error:
        message, kind, code = str(error), type(error).__name__, error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except USAGE_ERRORS as error:
        message, kind, code = error.format_message(), "UsageError", error.exit_code
    # Who ends with a code alone has said what there was to say; but for Ctrl-C, which Typer makes a code of.
    if kind != "Interrupted" or code == INTERRUPTED:
        typer.echo(json.dumps({"error": message, "kind": kind, "exit_code": code}))
    return code


if __name__ == "__main__":
    main()
