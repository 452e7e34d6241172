"""A process of several that are a server together, as whoever starts it sees it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_server.errors import ConfigurationError
from edge_server.server.config import ServerConfig
from edge_server.server.front_doors import Place
from edge_server.server.telling import ModelIdentity, told

LOOK_S = 0.05
"""How often it is looked for what a process says of itself [s]."""


class MemberProcess:
    """A process, or the next one in its place.

    Args:
        name: what it is called in logs.
        program: what it runs.
        config: its own settings; they name its ready file.
        place: which of several doors it is; None: none of them.
        ready: its ready file.

    Attributes:
        process: the one that was begun last; None: none was.
        died: how often one has ended soon after it was begun, since one did not.
        watch: sees to its successor.
    """

    def __init__(
        self, name: str, program: Sequence[str], config: ServerConfig, place: Place | None, ready: Path
    ) -> None:
        self.name = name
        self.process: asyncio.subprocess.Process | None = None
        self.died = 0
        self.watch: asyncio.Task[None] | None = None
        self._program = tuple(program)
        self._config = config
        self._place = place
        self._ready = ready

    @property
    def facts(self) -> Mapping[str, Any]:
        """What it says of itself, read anew; empty until it is ready."""
        with contextlib.suppress(OSError, ValueError):
            found: Mapping[str, Any] = json.loads(self._ready.read_text(encoding="utf-8"))
            return found
        return {}

    @property
    def model(self) -> ModelIdentity | None:
        """What it serves; None while it does not."""
        facts = self.facts
        return (facts["bundle_hash"], facts["digest"]) if facts else None

    def signal(self, number: signal.Signals) -> None:
        """Tell it, if it lives."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    async def begin(self, model: ModelIdentity | None = None) -> None:
        """Start it and tell it what it is.

        Args:
            model: that it has to serve; None: what the model folder holds.

        Raises:
            OSError: it cannot be started.
        """
        self._ready.unlink(missing_ok=True)
        # Of a session of its own: Ctrl-C ends the doors first, and whoever started it tells it.
        self.process = await asyncio.create_subprocess_exec(
            *self._program, stdin=asyncio.subprocess.PIPE, start_new_session=True
        )
        assert self.process.stdin is not None  # noqa: S101 (it was asked for)
        self.process.stdin.write(told(self._config, self._place, model))
        with contextlib.suppress(ConnectionError):
            await self.process.stdin.drain()

    async def until_ready(self) -> None:
        """Wait until it says that it is there.

        Raises:
            ConfigurationError: it ended instead; it has said why.
        """
        while not self.facts:
            if self.process is not None and self.process.returncode is not None:
                raise ConfigurationError(f"front_doors: {self.name} did not start; its lines above say why")
            await asyncio.sleep(LOOK_S)

    async def ended(self) -> int | None:
        """Wait for its end; its exit status, or None where it was never begun."""
        return None if self.process is None else await self.process.wait()
