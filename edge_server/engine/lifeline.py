"""Whether a process lives, and its end, whatever became of the one that started it.

multiprocessing asks the fork server how a process fares, and takes all of them for dead when that one dies.
Where the kernel has process descriptors (Linux), it is asked itself, and no signal goes to another process
that has the same number by now.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

_LOOK_EACH_S = 1.0
_TASKS = "/proc/{}/task"
_COMPUTES = ("R", "D")
"""States of a thread that runs, waits for a core, or waits for a disk (proc_pid_stat(5))."""


class Lifeline:
    """Holds on to a process that was started.

    Args:
        process: of multiprocessing, started.
    """

    def __init__(self, process: BaseProcess) -> None:
        self._process = process
        self._descriptor: int | None = None
        if process.pid is not None and hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                self._descriptor = os.pidfd_open(process.pid)

    @property
    def alive(self) -> bool:
        """Whether it runs, or is stopped."""
        return not self.ended_within(0.0)

    def ended_within(self, seconds: float) -> bool:
        """Wait for its end, so long at most; whether it came."""
        if self._descriptor is None:
            self._process.join(seconds)
            return not self._process.is_alive()
        ended = select.poll()
        ended.register(self._descriptor, select.POLLIN)
        return bool(ended.poll(round(1000 * seconds)))

    @property
    def computing_s(self) -> float | None:
        """CPU time of its threads [s] while one of them runs or would, had it a core.

        None: all wait or are stopped, it has ended, or the system does not tell.
        """
        ticks, computes = 0, False
        with contextlib.suppress(OSError):
            for stat in Path(_TASKS.format(self._process.pid)).glob("*/stat"):
                # Behind the name, which may have brackets and spaces of its own.
                told = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                computes |= told[0] in _COMPUTES
                ticks += int(told[11]) + int(told[12])
        return ticks / os.sysconf("SC_CLK_TCK") if computes else None

    def kill(self) -> None:
        """End it, whatever it is at; harmless when it has ended."""
        if self._descriptor is None:
            self._process.kill()
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    def close(self) -> None:
        """Let go of it; it has ended."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        os.close(descriptor)
        # Only where it came to be a child of this process, because its parent has died.
        with contextlib.suppress(OSError):
            os.waitpid(self._process.pid or 0, os.WNOHANG)


class ForkServer:
    """Sees to it that the process lives from which others are forked: it takes as long as its imports do."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looked_at_s = time.monotonic()

    def keep(self) -> None:
        """Start it again where it has died, without waiting for it; looks once a second at most."""
        now_s = time.monotonic()
        with self._lock:
            if now_s - self._looked_at_s < _LOOK_EACH_S:
                return
            self._looked_at_s = now_s
        with contextlib.suppress(OSError):
            forkserver.ensure_running()


FORK_SERVER = ForkServer()
"""There is one for a process, which multiprocessing keeps."""
