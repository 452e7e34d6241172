"""The ready file: what a server says of itself, for whoever waits until it can be asked."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_server.errors import ConfigurationError


def write_ready(path: Path, facts: Mapping[str, Any]) -> None:
    """Write it whole: whoever waits for the file never reads half of it.

    Raises:
        ConfigurationError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(json.dumps(facts) + "\n", encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise ConfigurationError(
            f"ready_file: {path} cannot be written: {error.strerror or error}"
        ) from error
