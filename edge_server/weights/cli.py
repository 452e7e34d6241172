"""``edge-server weights``: published weights that a model of this project is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from device_agent.places import fetched_models
from edge_server.weights.assemble import TRAINED, get_open_small
from edge_server.weights.open_small import NAME

app = typer.Typer(help="Published weights that models are made of.", pretty_exceptions_enable=False)


@app.callback()
def weights() -> None:
    """Published weights that models are made of."""


@app.command()
def get(
    model: Annotated[str, typer.Argument(help=f"Which model: {NAME}.")],
    trained: Annotated[Path, typer.Option(help="Folder of what was trained here.")] = TRAINED,
    out: Annotated[
        Path | None, typer.Option(help="Model folder.  [default: ~/.cache/tokenlink/models/MODEL]")
    ] = None,
) -> None:
    """Fetch a model's published weights by hash, once, and make its folder."""
    if model != NAME:
        raise typer.BadParameter(f"{model!r}; there is: {NAME}", param_hint="MODEL")
    folder = get_open_small(trained, out or fetched_models() / NAME)
    typer.echo(f"{folder}: made; serve it with: edge-server serve --model {out or NAME}")
