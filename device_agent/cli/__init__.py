"""The ``device-agent`` command."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    # The program's entry, as long as nothing loaded the module of that name: scripts call it as before there
    # were rooms.
    if name == "main":
        from device_agent.cli.start import main

        return main
    raise AttributeError(name)
