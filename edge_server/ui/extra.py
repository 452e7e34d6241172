"""Whether there is a page: a setting, and an extra that may not be installed. Imports nothing of either."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

from edge_server.errors import ConfigurationError

_NEEDED = ("nicegui", "PIL")


def page_is_served(setting: Literal["auto", "on", "off"]) -> bool:
    """Whether to serve the page.

    Args:
        setting: ``auto``: where the extra is installed.

    Raises:
        ConfigurationError: the page was asked for, but the extra is not installed.
    """
    if setting == "off":
        return False
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing and setting == "on":
        raise ConfigurationError(
            f"ui is 'on', but {missing[0]} is not installed; in a clone of the repository: "
            "pip install '.[ui]'; or set ui to 'off'"
        )
    return not missing
