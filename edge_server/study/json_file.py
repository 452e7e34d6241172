"""How studies write what they found: JSON that a person can read, and that git can show line by line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_json(path: Path, found: Any) -> None:
    """Write a result or a record; its folder is made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
