"""The outbox as the event loop sees it: one thread of its own for the file, and who of several agents sends.

What is done with the file runs on the thread, one after another; a caller that is cancelled leaves what it
asked for done.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Concatenate, ParamSpec, TypeVar

from device_agent.errors import OutboxDamagedError, OutboxError
from device_agent.lasting import LastingClock
from device_agent.outbox.records import Bounds
from device_agent.outbox.store import Spool

_Result = TypeVar("_Result")
_Arguments = ParamSpec("_Arguments")


class Outbox:
    """A :class:`device_agent.outbox.store.Spool` off the event loop; an asynchronous context manager.

    Args:
        path: of the file.
        bounds: how much may wait, for how long.
        clock: tells how long something has waited; None: the system's.

    Attributes:
        device_key: of the file; see :attr:`SpoolFile.device_key`.
    """

    def __init__(
        self, path: Path, bounds: Bounds | None = None, *, clock: LastingClock | None = None
    ) -> None:
        self.path = path
        self._open = functools.partial(Spool, path, bounds, clock=clock)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tokenlink-outbox")
        self._spool: Spool | None = None
        self._watchers: set[asyncio.Event] = set()
        self._lock: int | None = None
        self.device_key = ""

    async def __aenter__(self) -> Outbox:
        """Open it.

        Raises:
            OutboxError: it cannot be used.
        """
        loop = asyncio.get_running_loop()
        try:
            self._spool = await loop.run_in_executor(self._thread, self._open)
            self.device_key = await self.call(lambda spool: spool.file.device_key)
        except BaseException:
            self._thread.shutdown()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop_leading()
        if self._spool is not None:
            await self.call(Spool.close)
        self._thread.shutdown()

    @contextlib.contextmanager
    def changes(self) -> Iterator[asyncio.Event]:
        """An event that is set whenever something changes through this object; its holder clears it."""
        event = asyncio.Event()
        self._watchers.add(event)
        try:
            yield event
        finally:
            self._watchers.discard(event)

    def lead(self) -> bool:
        """Become the one agent that sends from this file; False while another is. Held until death.

        Raises:
            OutboxError: the lock beside the file cannot be opened.
        """
        if self._lock is not None:
            return True
        name = self.path.with_name(f"{self.path.name}.lock")
        try:
            lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise OutboxError(f"outbox: {name} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return False
        self._lock = lock
        return True

    def stop_leading(self) -> None:
        """Leave sending to another agent."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    async def call(
        self,
        work: Callable[Concatenate[Spool, _Arguments], _Result],
        *args: _Arguments.args,
        **kwargs: _Arguments.kwargs,
    ) -> _Result:
        """Have something done on the file's thread, as in ``await outbox.call(Spool.put, question)``.

        A file that turns out to be damaged, or that another process put aside for that, is opened anew.

        Whoever holds an event of :meth:`changes` is told if a question came or ended meanwhile. A caller of
        :meth:`Spool.deliver` must not be cancelled: what that returns is returned once.

        Args:
            work: called with the open spool first.
            args: of it.
            kwargs: likewise.

        Raises:
            OutboxError: it is not open; or what ``work`` raises.
        """
        if self._spool is None:
            raise OutboxError(f"outbox: {self.path} is not open")

        def run() -> tuple[_Result, bool]:
            spool = self._current()
            before = spool.revision
            try:
                result = work(spool, *args, **kwargs)
            except OutboxDamagedError:
                spool = self._reopened()
                before = -1
                result = work(spool, *args, **kwargs)
            return result, spool.revision != before

        result, changed = await asyncio.get_running_loop().run_in_executor(self._thread, run)
        if changed:
            self._tell()
        return result

    def _tell(self) -> None:
        for event in self._watchers:
            event.set()

    def _current(self) -> Spool:
        spool = self._spool
        if spool is None:
            raise OutboxError(f"outbox: {self.path} is not open")
        return spool if spool.file.is_current else self._reopened()

    def _reopened(self) -> Spool:
        if self._spool is not None:
            self._spool.close()
        # Opening looks for damage and mends it.
        self._spool = self._open()
        return self._spool
