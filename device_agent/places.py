"""Where things are kept and looked for when no setting says it, also where there is no home."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

NO_HOME = Path("/nonexistent")
"""The home of a user who has none: nothing is found there, and nothing can be written."""
_SHIPPED = "soundstage-small"
_MODELS = Path("deploy/models")
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


def cache() -> Path:
    """The folder for what can be fetched again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or home() / ".cache") / "tokenlink"


def fetched_models() -> Path:
    """Where models are kept that were made of fetched weights, by name."""
    return cache() / "models"


def downloads() -> Path:
    """Where fetched files are kept, by their names."""
    return cache() / "downloads"


def resolved_model(model: Path) -> Path:
    """A model's folder: a bare name that is no folder here is that of a fetched one, if there is one."""
    fetched = fetched_models() / model.name
    return fetched if len(model.parts) == 1 and not is_folder(model) and is_folder(fetched) else model


def shipped_model(name: str = _SHIPPED) -> Path | None:
    """The folder of a model that comes with the project, None where it was left out.

    It is a clone's, else the one among the data of an installed wheel.
    """
    return cloned_model(name) or next((f for f in _installed_models(name) if is_folder(f)), None)


def cloned_model(name: str = _SHIPPED) -> Path | None:
    """The folder of a model that comes with a clone: in the current folder, else in that of the sources."""
    for root in (Path(), _SOURCES):
        if is_folder(root / _MODELS / name):
            return root / _MODELS / name
    return None


def _installed_models(name: str) -> Iterator[Path]:
    # What pip was told with --user goes by another scheme than what it was told without.
    for scheme in (sysconfig.get_default_scheme(), sysconfig.get_preferred_scheme("user")):
        yield Path(sysconfig.get_path("data", scheme)) / "share" / "tokenlink" / "models" / name


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
