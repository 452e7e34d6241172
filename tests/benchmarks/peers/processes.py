"""A server in a process of its own: started, its CPU time counted, ended with all that it has started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

_ENDS_WITHIN_S = 20.0
_LOG_LINES_SHOWN = 12
_IDLE_SHARE = 0.2
_IDLE_EVERY_S = 0.5
_IDLE_WITHIN_S = 30.0


class ServerDiedError(Exception):
    """A server ended, or never became ready; says what its log says."""


class ServerProcess:
    """A running server, as a context.

    Args:
        command: to start.
        environment: variables beside those of this process.
        log: file that takes its output.
        folder: where it runs.
    """

    def __init__(
        self, command: Sequence[str | Path], environment: Mapping[str, str], log: Path, folder: Path
    ) -> None:
        self._command = [str(part) for part in command]
        self._environment = dict(os.environ) | dict(environment)
        self._log = log
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._seen: dict[psutil.Process, float] = {}

    def __enter__(self) -> ServerProcess:
        with self._log.open("wb") as sink:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        if process is None:
            return
        self.cpu_s()  # who has left the group, and would be orphaned, is known from here on
        process.terminate()
        try:
            process.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for each in self._seen:
            # psutil compares creation times: a number that was given to another process is left alone.
            with contextlib.suppress(psutil.Error):
                if each.pid != process.pid and each.is_running():
                    each.kill()
        psutil.wait_procs([each for each in self._seen if each.pid != process.pid], timeout=_ENDS_WITHIN_S)

    def check(self) -> None:
        """See that it runs.

        Raises:
            ServerDiedError: it does not.
        """
        if self._process is None or self._process.poll() is not None:
            raise ServerDiedError(f"the server ended: {self.last_words()}")

    def last_words(self) -> str:
        """The end of its log."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return " | ".join(line.strip() for line in lines[-_LOG_LINES_SHOWN:] if line.strip())

    def cpu_s(self) -> float:
        """CPU time of the whole process tree so far, of children that have ended as last seen [s]."""
        if self._process is None:
            return 0.0
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(self._process.pid)
            for each in (root, *root.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    times = each.cpu_times()
                    self._seen[each] = times.user + times.system
        return sum(self._seen.values())

    async def until_idle(self) -> None:
        """Wait until all its processes have started up, as far as their use of the CPU tells.

        Raises:
            ServerDiedError: it ended.
        """
        end_s = time.monotonic() + _IDLE_WITHIN_S
        before_s = self.cpu_s()
        while time.monotonic() < end_s:
            await asyncio.sleep(_IDLE_EVERY_S)
            self.check()
            now_s = self.cpu_s()
            if now_s - before_s < _IDLE_SHARE * _IDLE_EVERY_S:
                return
            before_s = now_s
