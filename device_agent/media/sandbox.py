"""Media of strangers, decoded in other processes: what a decoder does wrong, it does there.

    thread ─▶ a free worker ─▶ decodes within RLIMIT_AS, RLIMIT_CPU ─▶ frames and samples through its pipe
                  └─ too long, too much memory, broken: killed, and another is started in its place

The kernel keeps the limits, whatever the decoder: no check of our own stands between a file and them. A
worker can open no file and write none, and gets no variable of the environment but those that Python needs.
One is used for many files, so honest ones pay a pipe, not a start.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import asdict
from typing import Any, BinaryIO, cast

from device_agent import errors
from device_agent.errors import MediaError, MediaLimitError
from device_agent.media.clip import Clip, MediaKind, MediaSpec
from device_agent.media.limits import MediaLimits
from device_agent.media.worker import clip_of, receive, send

_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT")
_SMALL_STACKS = ["sh", "-c", 'ulimit -s 1024; exec "$@"', "sh"] if shutil.which("sh") else []
"""Stacks of threads count as memory, used or not, and FFmpeg starts threads as there are processors."""
_WALL_PER_CPU = 4.0
_WALL_SPARE_S = 10.0
"""A busy machine gives a worker less than a processor; one that does not even use its time is stuck."""


class MediaPool:
    """Decodes media in processes of their own, so many at a time.

    Threads may call it at once; those for which no worker is free wait.

    Args:
        workers: processes. They are started when they are first needed.
    """

    def __init__(self, workers: int) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._running: set[_Worker] = set()
        self._free: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(workers):
            self._free.put(None)

    def start(self) -> None:
        """Start all workers now, not when the first file comes."""
        for _ in range(self._free.qsize()):
            self._free.get()
            self._free.put(self._started("media"))

    def clip_from_bytes(
        self,
        data: bytes,
        *,
        kind: MediaKind | None = None,
        field: str = "media",
        spec: MediaSpec | None = None,
        limits: MediaLimits | None = None,
        start_s: float = 0.0,
        length_s: float | None = None,
    ) -> Clip:
        """As :func:`device_agent.media.loading.clip_from_bytes`, elsewhere.

        Raises:
            MediaError: as there; or the decoder broke.
            MediaLimitError: as there; or the limits on time and memory ended it.
        """
        limits = limits or MediaLimits()
        if len(data) > limits.max_bytes:
            raise MediaLimitError(
                field, f"has {len(data)} bytes; at most {limits.max_bytes} are allowed (max_bytes)"
            )
        request = {
            "kind": kind,
            "field": field,
            "spec": asdict(spec or MediaSpec()),
            "limits": asdict(cast(Any, limits)),
            "start_s": start_s,
            "length_s": length_s,
            "size": len(data),
        }
        worker = self._free.get()
        try:
            if worker is None or not worker.alive:
                worker = self._started(field)
            return worker.decode(request, data, limits, field)
        finally:
            self._free.put(worker if worker is not None and worker.alive else None)

    def close(self) -> None:
        """Kill the workers; who waits for one gets a :class:`MediaError`."""
        with self._lock:
            self._closed = True
            running, self._running = self._running, set()
        for worker in running:
            worker.kill()

    def _started(self, field: str) -> _Worker:
        with self._lock:
            if self._closed:
                raise MediaError(field, "is not decoded any more: the server is closing")
            self._running = {worker for worker in self._running if worker.alive}
            worker = _Worker()
            self._running.add(worker)
        return worker


class _Worker:
    """One process."""

    def __init__(self) -> None:
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        # Threads of a numerics library would be address space for nothing.
        environment |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
        environment |= {"MALLOC_ARENA_MAX": "1"}
        self._process = subprocess.Popen(  # noqa: S603 (this interpreter, a module of ours)
            [*_SMALL_STACKS, sys.executable, "-P", "-m", "device_agent.media.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the process that asks
        )
        self.alive = True

    def decode(self, request: dict[str, Any], data: bytes, limits: MediaLimits, field: str) -> Clip:
        """One file; a worker that fails at it is dead afterwards."""
        stdin, stdout = cast(BinaryIO, self._process.stdin), cast(BinaryIO, self._process.stdout)
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self.kill()

        timer = threading.Timer(_WALL_SPARE_S + _WALL_PER_CPU * limits.max_decode_s, give_up)
        timer.daemon = True
        timer.start()
        try:
            send(stdin, request, data)
            header = receive(stdout)
            if "error" not in header:
                return clip_of(header, stdout, MediaSpec(**request["spec"]))
        except (EOFError, OSError, ValueError, KeyError, TypeError) as error:
            raise self._ended(late.is_set(), limits, field) from error
        finally:
            timer.cancel()
        if header["error"] == "MemoryError":
            self.kill()
            raise _too_much_memory(limits, field)
        kind = getattr(errors, str(header["error"]), MediaError)
        raise (kind if issubclass(kind, MediaError) else MediaError)(
            str(header["field"]), str(header["message"])
        )

    def kill(self) -> None:
        """End the process, whatever it does."""
        self.alive = False
        with contextlib.suppress(OSError):
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                cast(BinaryIO, pipe).close()

    def _ended(self, late: bool, limits: MediaLimits, field: str) -> MediaError:
        """What to say of a worker that went away."""
        self.alive = False
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._process.wait(1.0)
        self.kill()
        code = self._process.returncode
        if late or code == -signal.SIGXCPU:
            return MediaLimitError(
                field, f"takes more than {limits.max_decode_s:g} s to decode (max_decode_s)"
            )
        if code in (-signal.SIGABRT, -signal.SIGBUS, -signal.SIGKILL):
            return _too_much_memory(limits, field)
        return MediaError(field, "cannot be decoded: the decoder broke on it")


def _too_much_memory(limits: MediaLimits, field: str) -> MediaLimitError:
    return MediaLimitError(
        field,
        f"takes more than {limits.max_memory_bytes} bytes of memory to decode (max_memory_bytes)",
    )
