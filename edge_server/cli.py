"""The ``edge-server`` command.

Commands that train or evaluate live with the code they run and are imported only when they are called:
``serve`` starts without training code, ``--help`` without torch. To add one, add a line to
:data:`ELSEWHERE`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer

from device_agent.cli.conventions import HELP, INTERRUPTED, MARKUP
from device_agent.cli.printable import set_up_output
from device_agent.version import agent_version
from edge_server.errors import EdgeServerError


@dataclass(frozen=True)
class Elsewhere:
    """A command that another module implements.

    Attributes:
        module: imported when the command is called.
        summary: shown by ``edge-server --help``.
        app: name of the Typer app in it, which gets everything that follows the command's name.
    """

    module: str
    summary: str
    app: str = "app"


ELSEWHERE: Mapping[str, Elsewhere] = MappingProxyType(
    {
        "dataset": Elsewhere("edge_server.data.cli", "Make or convert data sets."),
        "train": Elsewhere("edge_server.training.cli", "Train a model, stage by stage."),
        "evaluate": Elsewhere("edge_server.evaluation.cli", "Measure a model; writes JSON."),
        "study": Elsewhere("edge_server.study.cli", "Compare systems: results, figures, page."),
        "check": Elsewhere("edge_server.server.check", "Check settings, certificates, model, ports."),
        "certs": Elsewhere(
            "edge_server.access.cli", "Make an authority; certificates of server and devices."
        ),
        "enrol-token": Elsewhere("edge_server.access.cli", "Let a device in, once.", "token_app"),
        "keys": Elsewhere("edge_server.access.cli", "API keys for REST.", "keys_app"),
        "export": Elsewhere("edge_server.training.cli", "Write a model's device bundle.", "export_app"),
        "migrate-records": Elsewhere(
            "edge_server.training.cli",
            "Write records of runs again that an older release wrote.",
            "migrate_app",
        ),
    }
)
"""Commands of other modules, by name."""


def serve(
    config: Annotated[Path | None, typer.Option(help="Settings file, TOML.")] = None,
    model: Annotated[Path | None, typer.Option(help="Folder of the model, with bundle/ in it.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="0: any free one.")] = None,
    rest_port: Annotated[int | None, typer.Option(help="0: any free one.")] = None,
    batches: Annotated[int | None, typer.Option(help="Batches side by side.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the model's operators.")] = None,
    max_batch: Annotated[int | None, typer.Option(help="Questions that a batch decodes together.")] = None,
    max_queue: Annotated[int | None, typer.Option(help="Questions that may wait.")] = None,
    drain_s: Annotated[float | None, typer.Option(help="Time to finish after SIGTERM [s].")] = None,
    answers: Annotated[
        Path | None,
        typer.Option(help="SQLite file for answers that no device acknowledged yet; else in memory."),
    ] = None,
    ready_file: Annotated[Path | None, typer.Option(help="JSON with the ports, once they are open.")] = None,
    log_level: Annotated[str | None, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="The server's certificate, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key, PEM.")] = None,
    tls_ca: Annotated[Path | None, typer.Option(help="Authorities of devices, PEM.")] = None,
    access: Annotated[Path | None, typer.Option(help="Access file: certificates and API keys.")] = None,
    enrol_port: Annotated[int | None, typer.Option(help="Where devices get certificates.")] = None,
    ca_key: Annotated[Path | None, typer.Option(help="Key of the first of --tls-ca, PEM; to enrol.")] = None,
    rest_behind_proxy: Annotated[
        bool | None, typer.Option("--rest-behind-proxy", help="A proxy ends TLS before REST.")
    ] = None,
    trusted_network: Annotated[
        bool | None,
        typer.Option("--trusted-network", help="Listen beyond this machine and let everybody in."),
    ] = None,
) -> None:
    """Answer questions over gRPC and REST.

    Every setting, these and more, can come from the environment, TOKENLINK_SERVER_MAX_BATCH=64, or from
    a TOML file, max_batch = 64. `edge-server check` says what is wrong with them.
    """
    from edge_server.server import logs, process
    from edge_server.server.settings import load_config

    flags: dict[str, Any] = {
        "model": model,
        "host": host,
        "grpc_port": grpc_port,
        "rest_port": rest_port,
        "batches": batches,
        "threads": threads,
        "max_batch": max_batch,
        "max_queue": max_queue,
        "drain_s": drain_s,
        "answers": answers,
        "ready_file": ready_file,
        "log_level": log_level,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "tls_ca": tls_ca,
        "access": access,
        "enrol_port": enrol_port,
        "ca_key": ca_key,
        "rest_behind_proxy": rest_behind_proxy,
        "trusted_network": trusted_network,
    }
    try:
        settings = load_config(flags, config)
        logs.configure(settings.server.log_level)
        process.run(settings)
    except EdgeServerError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error


def build() -> typer.Typer:
    """The command with all its subcommands."""
    cli = typer.Typer(
        help="The edge server: answers questions about what devices saw and heard, and makes its models.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=MARKUP,
        context_settings=HELP,
    )
    cli.callback()(_root)
    cli.command()(serve)
    for name, command in ELSEWHERE.items():
        cli.command(
            name,
            help=command.summary,
            # Its own options, --help too, are its own business.
            add_help_option=False,
            context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
        )(_forward(name, command))
    return cli


def main() -> None:
    """Entry point; Ctrl-C ends it quietly."""
    set_up_output()
    try:
        build()(prog_name="edge-server")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edge-server {agent_version()}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version, and go."),
    ] = False,
) -> None:
    """The edge server: answers questions about what devices saw and heard, and makes its models."""


def _forward(name: str, command: Elsewhere) -> Callable[[typer.Context], None]:
    def call(ctx: typer.Context) -> None:
        try:
            app = getattr(importlib.import_module(command.module), command.app)
            app.rich_markup_mode = MARKUP
            app(args=ctx.args, prog_name=f"edge-server {name}", **HELP)
        except ImportError as error:
            typer.echo(
                f"edge-server {name} needs {error.name or error}, which is not installed; "
                "in a clone of the repository: pip install '.[train]'",
                err=True,
            )
            raise typer.Exit(2) from error
        except EdgeServerError as error:
            typer.echo(f"edge-server {name}: {error}", err=True)
            raise typer.Exit(2) from error

    return call
