"""Where things are kept and looked for when no setting says it, also where there is no home."""

from __future__ import annotations

import os
from pathlib import Path

NO_HOME = Path("/nonexistent")
"""The home of a user who has none: nothing is found there, and nothing can be written."""
_SHIPPED = Path("deploy/models/soundstage-small")
_SOURCES = Path(__file__).resolve().parents[1]


def home() -> Path:
    """The user's home; :data:`NO_HOME` where neither environment nor user database names one."""
    try:
        return Path.home()
    except RuntimeError:
        return NO_HOME


def state() -> Path:
    """The folder for what an agent remembers."""
    return Path(os.environ.get("XDG_STATE_HOME") or home() / ".local" / "state") / "tokenlink"


def shipped_model() -> Path | None:
    """The folder of the model that comes with a clone: in the current folder, else in that of the sources."""
    for root in (Path(), _SOURCES):
        if is_folder(root / _SHIPPED):
            return root / _SHIPPED
    return None


def is_file(path: Path) -> bool:
    """Whether there is such a file; what cannot be the name of one, or cannot be looked at, is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Likewise, of a folder."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
