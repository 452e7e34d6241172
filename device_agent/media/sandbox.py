"""Files that others made, decoded in other processes: what a decoder does wrong, it does there.

    thread ─▶ a free worker ─▶ decodes within RLIMIT_AS, RLIMIT_CPU ─▶ frames and samples through its pipe
                  └─ too long, too much memory, broken: killed, and another is started in its place

The kernel keeps the limits, whatever the decoder: no check of our own stands between a file and them. A
worker can open no file and write none, reaches no network and starts no program where the kernel can refuse
that (:mod:`device_agent.media.confinement`), and gets no variable of the environment but those that Python
needs; of the file it gets what it asks for. One is used for many files, so honest ones pay a pipe, not a
start. No decoder is in the memory of the process that asks.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

from device_agent import errors
from device_agent.errors import MediaError, MediaLimitError
from device_agent.media.clip import Clip, MediaKind, MediaSpec
from device_agent.media.files import opened
from device_agent.media.limits import MediaLimits
from device_agent.media.messages import MAX_READ_BYTES, clip_of, receive, send

logger = logging.getLogger(__name__)

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
        limits: what decoding one file may cost, where a call does not say.
    """

    def __init__(self, workers: int, limits: MediaLimits | None = None) -> None:
        self._limits = limits or MediaLimits()
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
        """As :func:`device_agent.media.loading.clip_from_bytes`, elsewhere; raises as below."""
        return self.clip_from_stream(
            io.BytesIO(data),
            len(data),
            kind=kind,
            field=field,
            spec=spec,
            limits=limits,
            start_s=start_s,
            length_s=length_s,
        )

    def clip_from_file(
        self,
        path: Path,
        *,
        kind: MediaKind | None = None,
        field: str | None = None,
        spec: MediaSpec | None = None,
        limits: MediaLimits | None = None,
        start_s: float = 0.0,
        length_s: float | None = None,
    ) -> Clip:
        """As :func:`device_agent.media.loading.clip_from_file`, elsewhere; raises as below."""
        field = field or str(path)
        with opened(path, field) as (file, size):
            return self.clip_from_stream(
                file,
                size,
                kind=kind,
                field=field,
                spec=spec,
                limits=limits,
                start_s=start_s,
                length_s=length_s,
            )

    def clip_from_stream(
        self,
        file: BinaryIO,
        size: int,
        *,
        kind: MediaKind | None = None,
        field: str = "media",
        spec: MediaSpec | None = None,
        limits: MediaLimits | None = None,
        start_s: float = 0.0,
        length_s: float | None = None,
    ) -> Clip:
        """As :func:`device_agent.media.loading.clip_from_stream`, elsewhere.

        Raises:
            MediaError: as there; or the decoder broke.
            MediaLimitError: as there; or the limits on time and memory ended it.
        """
        limits = limits or self._limits
        request = {
            "kind": kind,
            "field": field,
            "spec": asdict(spec or MediaSpec()),
            "limits": asdict(cast(Any, limits)),
            "start_s": start_s,
            "length_s": length_s,
            "size": size,
        }
        worker = self._free.get()
        try:
            if worker is None or not worker.alive:
                worker = self._started(field)
            return worker.decode(request, file, limits, field)
        finally:
            self._free.put(worker if worker is not None and worker.alive else None)

    def close(self) -> None:
        """Kill the workers; who waits for one gets a :class:`MediaError`."""
        with self._lock:
            self._closed = True
            running, self._running = self._running, set()
        for worker in running:
            worker.kill()

    def __enter__(self) -> MediaPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _started(self, field: str) -> _Worker:
        with self._lock:
            if self._closed:
                raise MediaError(field, "is not decoded any more: the server is closing")
            self._running = {worker for worker in self._running if worker.alive}
            try:
                worker = _Worker()
            except OSError as error:
                raise MediaError(
                    field, f"cannot be decoded: no process can be started for it ({error.strerror or error})"
                ) from None
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

    def decode(self, request: dict[str, Any], file: BinaryIO, limits: MediaLimits, field: str) -> Clip:
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
            send(stdin, request)
            while "read" in (header := receive(stdout)):
                data = self._read(file, *map(int, header["read"]))
                send(stdin, {"size": len(data)}, data)
            _tell(tuple(header["confined"]))
            if "error" not in header:
                return clip_of(header, stdout, MediaSpec(**request["spec"]))
        except _UnreadableError as error:
            self.kill()  # it waits for what does not come
            raise MediaError(field, str(error)) from error.__cause__
        except (EOFError, OSError, ValueError, KeyError, TypeError) as error:
            # Without its cause: what broke is the worker, not the file that it was given.
            raise self._ended(late.is_set(), limits, field) from (
                None if isinstance(error, OSError) else error
            )
        finally:
            timer.cancel()
        if header["error"] == "MemoryError":
            self.kill()
            raise _too_much_memory(limits, field)
        kind = getattr(errors, str(header["error"]), MediaError)
        raise (kind if issubclass(kind, MediaError) else MediaError)(
            str(header["field"]), str(header["message"])
        )

    def _read(self, file: BinaryIO, offset: int, size: int) -> bytes:
        """What the decoder wants of the file; less where the file ends."""
        try:
            file.seek(offset)
            return file.read(min(size, MAX_READ_BYTES))
        except OSError as error:
            raise _UnreadableError(f"cannot be read: {error.strerror or error}") from error

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
                field, f"takes more than {limits.max_decode_s:g} s to decode (media.max_decode_s)"
            )
        if code in (-signal.SIGABRT, -signal.SIGBUS, -signal.SIGKILL):
            return _too_much_memory(limits, field)
        return MediaError(field, "cannot be decoded: the decoder broke on it")


@functools.cache
def _tell(confined: tuple[str, ...]) -> None:
    """Say once what the kernel takes away from processes that decode."""
    if confined:
        logger.info("files are decoded by processes confined by %s", " and ".join(confined))
    else:
        logger.warning("files are decoded within limits alone: this system has neither Landlock nor seccomp")


class _UnreadableError(Exception):
    """The file, not the worker, is at fault."""


def _too_much_memory(limits: MediaLimits, field: str) -> MediaLimitError:
    return MediaLimitError(
        field,
        f"takes more than {limits.max_memory_bytes} bytes of memory to decode (media.max_memory_bytes)",
    )
