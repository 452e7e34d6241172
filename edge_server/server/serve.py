"""``edge-server serve``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from device_agent.settings.flags import with_flags
from edge_server.errors import EdgeServerError
from edge_server.server import logs, process, supervisor
from edge_server.server.config import FLAGGED
from edge_server.server.settings import load_config

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
@with_flags(FLAGGED, "flags", dict)
def serve(
    flags: Mapping[str, Any],
    config: Annotated[Path | None, typer.Option(help="Settings file, TOML.")] = None,
) -> None:
    """Answer questions over gRPC and REST.

    Every setting, these and more, can come from the environment, TOKENLINK_SERVER_MAX_BATCH=64, or from
    a TOML file, max_batch = 64. `edge-server settings` lists them, `edge-server check` says what is wrong
    with them.
    """
    try:
        settings = load_config(flags, config)
        logs.configure(settings.server.log_level)
        if settings.server.front_doors > 1:
            supervisor.run(settings)
        else:
            process.run(settings)
    except EdgeServerError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
