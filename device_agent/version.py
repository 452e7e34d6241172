"""The agent's version, as installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def agent_version() -> str:
    """Version of the installed package; ``"unknown"`` when it runs from sources alone."""
    try:
        return version("tokenlink")
    except PackageNotFoundError:
        return "unknown"
