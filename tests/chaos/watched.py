"""A server as a process of its own, watched from outside: memory, descriptors, whether it lives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.chaos.serve_fingerprints import TASKS_FILE

ROOT = Path(__file__).resolve().parents[2]
_START_S = 60.0


@dataclass(frozen=True)
class Doors:
    """Where a server is open."""

    grpc: str
    rest: str
    bundle_hash: str


class WatchedServer:
    """Runs a server script; a context manager.

    Args:
        settings: of the server, without the prefix of their environment variables.
        module: what to run.
        environment: further variables.
    """

    def __init__(
        self,
        settings: Mapping[str, object] | None = None,
        *,
        module: str = "tests.chaos.serve_fingerprints",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._settings = dict(settings or {})
        self._module = module
        self._environment = dict(environment or {})
        self._folder = tempfile.TemporaryDirectory()
        self._log = Path(self._folder.name, "log")
        self._tasks = Path(self._folder.name, "tasks")
        self._process: subprocess.Popen[bytes] | None = None
        self._doors: Doors | None = None

    def __enter__(self) -> WatchedServer:
        ready = Path(self._folder.name, "ready.json")
        settings = {
            "grpc_port": 0,
            "rest_port": 0,
            "ready_file": ready,
            "log_level": "WARNING",
        } | self._settings
        named = {f"TOKENLINK_SERVER_{key.upper()}": str(value) for key, value in settings.items()}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module],
                cwd=ROOT,
                env=os.environ
                | {"OMP_NUM_THREADS": "1", TASKS_FILE: str(self._tasks)}
                | named
                | self._environment,
                stderr=log,
                stdout=log,
            )
        give_up_at = time.monotonic() + _START_S
        while not ready.exists():
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                self.__exit__(None, None, None)
                raise RuntimeError(f"{self._module} did not start: {self.log[-2000:]}")
            time.sleep(0.02)
        facts = json.loads(ready.read_text())
        self._doors = Doors(facts["grpc"], facts["rest"], facts["bundle_hash"])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._final_log = self.log
        self._folder.cleanup()

    @property
    def doors(self) -> Doors:
        """Where it is open."""
        assert self._doors is not None, "it was not started"
        return self._doors

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What it wrote."""
        return self._log.read_text(errors="replace") if self._log.exists() else self._final_log

    @property
    def memory_bytes(self) -> int:
        """Resident now."""
        return self._status("VmRSS")

    @property
    def peak_bytes(self) -> int:
        """Most that was resident since :meth:`forget_peak`."""
        return self._status("VmHWM")

    def forget_peak(self) -> None:
        """Begin a new peak."""
        Path(f"/proc/{self._pid}/clear_refs").write_text("5")

    @property
    def descriptors(self) -> int:
        """Open files and sockets."""
        return len(os.listdir(f"/proc/{self._pid}/fd"))

    @property
    def threads(self) -> int:
        """Of the process."""
        return len(os.listdir(f"/proc/{self._pid}/task"))

    @property
    def tasks(self) -> int:
        """Of its event loop, half a second ago at most."""
        return int(self._tasks.read_text())

    @property
    def _pid(self) -> int:
        assert self._process is not None, "it was not started"
        return self._process.pid

    def _status(self, name: str) -> int:
        for line in Path(f"/proc/{self._pid}/status").read_text().splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return int(value.split()[0]) * 1024
        raise RuntimeError(f"/proc/{self._pid}/status has no {name}")
