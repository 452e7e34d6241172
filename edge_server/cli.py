"""The ``edge-server`` command.

Commands live with the code they run and are imported only when they are called: ``serve`` starts without
training code, ``--help`` without torch. To add one, add a line to :data:`ELSEWHERE`.
"""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated

import typer

from device_agent.cli.conventions import HELP, INTERRUPTED, MARKUP
from device_agent.cli.printable import set_up_output, told_where_output_ends
from device_agent.version import agent_version
from edge_server.errors import EdgeServerError


@dataclass(frozen=True)
class Elsewhere:
    """A command that another module implements.

    Attributes:
        module: imported when the command is called.
        summary: shown by ``edge-server --help``.
        app: name of the Typer app in it, which gets everything that follows the command's name.
        extra: of this package, which installs what it needs.
        reloads: at SIGHUP, once it has loaded; until then SIGHUP is ignored, where others end.
    """

    module: str
    summary: str
    app: str = "app"
    extra: str = "train"
    reloads: bool = False


ELSEWHERE: Mapping[str, Elsewhere] = MappingProxyType(
    {
        "serve": Elsewhere(
            "edge_server.server.serve", "Answer questions over gRPC and REST.", extra="server", reloads=True
        ),
        "dataset": Elsewhere("edge_server.data.cli", "Make or convert data sets."),
        "train": Elsewhere("edge_server.training.cli", "Train a model, stage by stage."),
        "finetune": Elsewhere(
            "edge_server.training.cli", "Teach a model questions about clips of your own.", "finetune_app"
        ),
        "evaluate": Elsewhere("edge_server.evaluation.cli", "Measure a model; writes JSON."),
        "study": Elsewhere("edge_server.study.cli", "Compare systems: results, figures, page."),
        "check": Elsewhere(
            "edge_server.server.check", "Check settings, certificates, model, ports.", extra="server"
        ),
        "settings": Elsewhere("edge_server.server.reference", "Everything that can be set.", extra="server"),
        "cotrain": Elsewhere(
            "edge_server.cotrain.cli", "Devices and the edge learn together.", extra="server"
        ),
        "weights": Elsewhere("edge_server.weights.cli", "Fetch published weights that a model is made of."),
        "engines": Elsewhere("edge_server.runtime.engines_cli", "Engines that others wrote: install vLLM."),
        "certs": Elsewhere(
            "edge_server.access.cli", "Make an authority; certificates of server and devices."
        ),
        "enrol-token": Elsewhere("edge_server.access.cli", "Let a device in, once.", "token_app"),
        "keys": Elsewhere("edge_server.access.cli", "API keys for REST.", "keys_app"),
        "scene-space": Elsewhere(
            "edge_server.training.scene_space", "Teach a model to find scenes by texts; measures how well."
        ),
        "token-prior": Elsewhere(
            "edge_server.training.token_prior",
            "Learn what a model's tokens are like, for few pilots.",
        ),
        "scenes": Elsewhere(
            "edge_server.scenes.cli",
            "Scenes that devices shared: find, delete, ask again and again.",
            extra="scenes",
        ),
        "export": Elsewhere("edge_server.training.cli", "Write a model's device bundle.", "export_app"),
        "split": Elsewhere("edge_server.export.cli", "Split a model that you have: device, edge server."),
        "migrate-records": Elsewhere(
            "edge_server.training.cli",
            "Write records of runs again that an older release wrote.",
            "migrate_app",
        ),
    }
)
"""Commands of other modules, by name."""


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
    with told_where_output_ends("edge-server"):
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
        if command.reloads:
            # Before the import, which takes seconds: what is loaded after it is what was asked for.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            app = getattr(importlib.import_module(command.module), command.app)
            app.rich_markup_mode = MARKUP
            app(args=ctx.args, prog_name=f"edge-server {name}", **HELP)
        except ImportError as error:
            typer.echo(
                f"edge-server {name} needs {error.name or error}, which is not installed; "
                f"in a clone of the repository: pip install '.[{command.extra}]'",
                err=True,
            )
            raise typer.Exit(2) from error
        except EdgeServerError as error:
            typer.echo(f"edge-server {name}: {error}", err=True)
            raise typer.Exit(2) from error

    return call
