"""``edge-server settings``: everything that can be set, and the page of it in ``docs/settings.md``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from device_agent import config as device
from device_agent.settings.page import former_names, tables
from device_agent.settings.wording import bounds_of, help_of, quantity_of
from edge_server.server.config import SETTINGS

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_PAGE = """# Settings

<!-- Made from the settings themselves: edge-server settings --markdown docs/settings.md -->

A flag wins over a variable of the environment, which wins over the file, which wins over the default. An
unknown name, in the file or in a variable that begins like a setting's, is an error, and so is a setting that
is given by two of its names with different values. `edge-server check` and `device-agent doctor` say what is
wrong before anything is started.

## The edge server

The file is TOML, `$TOKENLINK_SERVER_CONFIG` or `~/.config/tokenlink/server.toml`. These three are one:

```toml
max_batch = 64

[engine]
max_batch = 64
```

```sh
TOKENLINK_SERVER_MAX_BATCH=64                       # or TOKENLINK_SERVER_ENGINE__MAX_BATCH
```

Without its section a setting has the name that is told second, where there are two. Every variable has its
section's form too. Lists are JSON in variables.

{server}

### Former names

They are read as before.

{former}

## The device agent

The file is TOML, `$TOKENLINK_DEVICE_CONFIG` or `~/.config/tokenlink/device.toml`, without sections:
`snr_db = 5`.

{device}
"""


def page() -> str:
    """``docs/settings.md``."""
    return _PAGE.format(
        server=tables(SETTINGS), former=former_names(SETTINGS), device=tables(device.SETTINGS)
    )


@app.command()
def settings(
    markdown: Annotated[
        Path | None, typer.Option(help="Write the page of both halves here, in Markdown.")
    ] = None,
) -> None:
    """Show what can be set: name, default, what is allowed, what it is."""
    if markdown is not None:
        markdown.write_text(page(), encoding="utf-8")
        return
    for setting in SETTINGS:
        allowed = f" ({bounds_of(setting)})" if bounds_of(setting) else ""
        typer.echo(f"{setting.key} = {quantity_of(setting)}{allowed}\n    {help_of(setting)}")
