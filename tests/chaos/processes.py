"""Servers and agents as processes that may be killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tests.ports import free_port

ROOT = Path(__file__).parents[2]
READY_WITHIN_S = 300.0


class Process:
    """A Python module run as a process; killed when its context ends.

    Args:
        arguments: after ``python -m``.
        log: standard output and error are appended here.
        environment: beside ours.
    """

    def __init__(self, arguments: list[str], log: Path, environment: dict[str, str] | None = None) -> None:
        self._arguments = arguments
        self._log = log
        self._environment = environment or {}
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, or start it again."""
        with self._log.open("ab") as sink:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *self._arguments,
                cwd=ROOT,
                env=os.environ | {"OMP_NUM_THREADS": "1"} | self._environment,
                stdout=sink,
                stderr=asyncio.subprocess.STDOUT,
            )

    @property
    def ended(self) -> int | None:
        """Its exit code, once it has one."""
        return self._process.returncode if self._process is not None else None

    async def kill(self) -> None:
        """Kill it (-9) and wait until it is gone. Harmless when it has ended."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
        await self.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal. Harmless when it has ended."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def wait(self) -> int | None:
        """Wait for its end."""
        return await self._process.wait() if self._process is not None else None

    def log(self) -> str:
        """What it said, the last of it."""
        return self._log.read_text(encoding="utf-8", errors="replace")[-4000:]


class ServerProcess(Process):
    """The server without weights, on a port that stays the same over restarts.

    Args:
        folder: for its files.
        settings: of the server, without prefix.
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.port = free_port()
        self._ready = folder / "ready.json"
        settings = {
            "grpc_port": self.port,
            "rest_port": 0,
            "ready_file": self._ready,
            "log_level": "ERROR",
        } | settings
        environment = {f"TOKENLINK_SERVER_{name.upper()}": str(value) for name, value in settings.items()}
        super().__init__(["tests.chaos.server"], folder / "server.log", environment)

    @property
    def address(self) -> str:
        """Of gRPC."""
        return f"127.0.0.1:{self.port}"

    async def up(self) -> float:
        """Start it and wait until it is ready; when that was, since the Unix epoch [s]."""
        self._ready.unlink(missing_ok=True)
        await self.start()
        until = time.monotonic() + READY_WITHIN_S
        while not self._ready.exists():
            if self.ended is not None or time.monotonic() > until:
                raise RuntimeError(f"the server does not come up:\n{self.log()}")
            await asyncio.sleep(0.02)
        json.loads(self._ready.read_text(encoding="utf-8"))
        return time.time()
