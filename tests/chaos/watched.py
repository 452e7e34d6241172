"""A server as a process of its own, watched from outside: memory, descriptors, whether it lives."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil

from tests.chaos.serve_fingerprints import TASKS_FILE

ROOT = Path(__file__).resolve().parents[2]
_START_S = 300.0
_GONE_WITHIN_S = 15.0
"""Processes that a server started have this long after its own end."""
_SERVE = ("-c", "from edge_server.cli import main; main()", "serve")


@dataclass(frozen=True)
class Doors:
    """Where a server is open."""

    grpc: str
    rest: str
    bundle_hash: str


class Watched:
    """A process that runs, and what it needs.

    Args:
        pid: its number.
    """

    def __init__(self, pid: int | None = None) -> None:
        self._number = pid

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._number is not None, "it was not started"
        return self._number

    def family(self) -> list[psutil.Process]:
        """Processes that it, or one of them, has started; those whose parent has died too."""
        found: dict[int, psutil.Process] = {}
        with contextlib.suppress(psutil.NoSuchProcess):
            found = {each.pid: each for each in psutil.Process(self.pid).children(recursive=True)}
        for number in map(int, filter(str.isdigit, os.listdir("/proc"))):
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                if number not in found and number != self.pid and os.getsid(number) == self.pid:
                    found[number] = psutil.Process(number)
        return list(found.values())

    def decoders(self) -> list[psutil.Process]:
        """Those of the family that decode media."""
        found = []
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                if _decodes(process):
                    found.append(process)
        return found

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
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    @property
    def descriptors(self) -> int:
        """Open files and sockets."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    @property
    def threads(self) -> int:
        """Of the process."""
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def _status(self, name: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return int(value.split()[0]) * 1024
        raise RuntimeError(f"/proc/{self.pid}/status has no {name}")


class WatchedServer(Watched):
    """Runs a server script; a context manager.

    Args:
        settings: of the server, without the prefix of their environment variables.
        arguments: of Python, what to run.
        environment: further variables.
        folder: where it runs.
    """

    def __init__(
        self,
        settings: Mapping[str, object] | None = None,
        *,
        arguments: Sequence[str] = ("-m", "tests.chaos.serve_fingerprints"),
        environment: Mapping[str, str] | None = None,
        folder: Path = ROOT,
    ) -> None:
        self._settings = dict(settings or {})
        self._arguments = tuple(arguments)
        self._environment = dict(environment or {})
        super().__init__()
        self._runs_in = folder
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
                [sys.executable, *self._arguments],
                cwd=self._runs_in,
                env=os.environ
                | {"OMP_NUM_THREADS": "1", TASKS_FILE: str(self._tasks)}
                | named
                | self._environment,
                stderr=log,
                stdout=log,
                start_new_session=True,
            )
        self._number = self._process.pid
        give_up_at = time.monotonic() + _START_S
        while not ready.exists():
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                self.__exit__(None, None, None)
                raise RuntimeError(f"{' '.join(self._arguments)} did not start: {self.log[-2000:]}")
            time.sleep(0.02)
        facts = json.loads(ready.read_text())
        self._doors = Doors(facts["grpc"], facts["rest"], facts["bundle_hash"])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.ended_within_s(40)
        self._final_log = self.log
        self._folder.cleanup()

    def ended_within_s(self, most_s: float) -> tuple[float, list[str]]:
        """Ask it to end.

        Returns:
            How long that took [s], infinity where it had to be killed; and which of the processes that it had
            started lived on, until they were killed.
        """
        assert self._process is not None, "it was not started"
        began, took_s, family = time.monotonic(), math.inf, self.family()
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(most_s)
            took_s = time.monotonic() - began
        left = []
        if math.isinf(took_s):
            self._process.kill()
            self._process.wait()
        else:
            _, living = psutil.wait_procs(family, _GONE_WITHIN_S)
            left = [" ".join(each.cmdline())[:100] for each in living if _lives(each)]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return took_s, left

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

    def runners(self) -> list[psutil.Process]:
        """Those of the family that hold a model's weights."""
        own = psutil.Process(self.pid).nice()
        found = []
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                if (
                    process.nice() > own
                    and process.status() != psutil.STATUS_ZOMBIE
                    and not _decodes(process)
                ):
                    found.append(process)
        return found

    @property
    def tasks(self) -> int:
        """Of its event loop, half a second ago at most."""
        return int(self._tasks.read_text())


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def _decodes(process: psutil.Process) -> bool:
    return "device_agent.media.worker" in " ".join(process.cmdline())


def edge_server(
    settings: Mapping[str, object] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path = ROOT,
) -> WatchedServer:
    """What ``edge-server serve`` runs, with the shipped model unless the settings name another."""
    return WatchedServer(settings, arguments=_SERVE, environment=environment, folder=folder)


@dataclass
class Growth:
    """The most memory that a server came to need while this is entered, over what it had before [bytes].

    Attributes:
        most_bytes: resident, in the server and all that it started.
    """

    most_bytes: int = 0


@contextlib.contextmanager
def growth_of(server: Watched, every_s: float = 0.1) -> Iterator[Growth]:
    """Watch a process's memory; of what it starts too, as often as said."""
    found, ended = Growth(), threading.Event()
    server.forget_peak()
    before = server.memory_bytes + _resident(server)
    largest = 0

    def look() -> None:
        nonlocal largest
        while not ended.wait(every_s):
            largest = max(largest, _resident(server))

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield found
    finally:
        ended.set()
        looking.join()
        with contextlib.suppress(FileNotFoundError, RuntimeError):
            found.most_bytes = server.peak_bytes + max(largest, _resident(server)) - before


def _resident(server: Watched) -> int:
    """Of what the server started, and of each only what is its own: weights and libraries are shared."""
    total = 0
    for process in server.family():
        with contextlib.suppress(psutil.Error, OSError):
            memory = process.memory_info()
            total += memory.rss - memory.shared
    return total
