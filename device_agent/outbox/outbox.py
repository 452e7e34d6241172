"""The outbox as the event loop sees it: one thread of its own for the file, and who of several agents sends.

All methods run on the thread, one after another; a caller that is cancelled leaves what it asked for done.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from device_agent.errors import OutboxError
from device_agent.outbox.records import Bounds, Delivery, NewQuestion, OutboxEnd, Stamp, Waiting
from device_agent.outbox.store import Spool

_Result = TypeVar("_Result")


class Outbox:
    """A :class:`device_agent.outbox.store.Spool` off the event loop; an asynchronous context manager.

    Args:
        path: of the file.
        bounds: how much may wait, for how long.
        wall_clock: seconds since the Unix epoch; None: the system's.

    Attributes:
        device_key: of the file; see :attr:`SpoolFile.device_key`.
    """

    def __init__(
        self, path: Path, bounds: Bounds | None = None, *, wall_clock: Callable[[], float] | None = None
    ) -> None:
        self.path = path
        self._open = functools.partial(
            Spool, path, bounds, **({"wall_clock": wall_clock} if wall_clock is not None else {})
        )
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
            self.device_key = await self._call(lambda spool: spool.file.device_key)
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
            await self._call(Spool.close)
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

    async def put(self, question: NewQuestion) -> bool:
        """As :meth:`Spool.put`."""
        return await self._change(lambda spool: spool.put(question))

    async def put_ended(
        self, request_id: str, source: str, label: str, stamp: Stamp | None, outcome: OutboxEnd, reason: str
    ) -> None:
        """As :meth:`Spool.put_ended`."""
        await self._change(lambda spool: spool.put_ended(request_id, source, label, stamp, outcome, reason))

    async def waiting(self, most: int, without: Sequence[str] = ()) -> list[Waiting]:
        """As :meth:`Spool.waiting`."""
        return await self._call(lambda spool: spool.waiting(most, without))

    async def still_waiting(self, request_ids: Sequence[str]) -> set[str]:
        """As :meth:`Spool.still_waiting`."""
        return await self._call(lambda spool: spool.still_waiting(request_ids))

    async def expire(self) -> int:
        """As :meth:`Spool.expire`."""
        expired = await self._call(Spool.expire)
        if expired:
            self._tell()
        return expired

    async def answered(self, request_id: str, record: Mapping[str, Any]) -> bool:
        """As :meth:`Spool.answered`."""
        return await self._change(lambda spool: spool.answered(request_id, record))

    async def end(self, request_id: str, outcome: OutboxEnd, reason: str) -> bool:
        """As :meth:`Spool.end`."""
        return await self._change(lambda spool: spool.end(request_id, outcome, reason))

    async def deliver(self, source: str) -> list[Delivery]:
        """As :meth:`Spool.deliver`. Not to be cancelled: what it returns is returned once."""
        return await self._call(lambda spool: spool.deliver(source))

    async def unacknowledged(self, most: int) -> list[str]:
        """As :meth:`Spool.unacknowledged`."""
        return await self._call(lambda spool: spool.unacknowledged(most))

    async def acknowledged(self, request_ids: Sequence[str]) -> None:
        """As :meth:`Spool.acknowledged`."""
        await self._call(lambda spool: spool.acknowledged(request_ids))

    async def seen(self, source: str) -> dict[str, Stamp]:
        """As :meth:`Spool.seen`."""
        return await self._call(lambda spool: spool.seen(source))

    async def see(self, source: str, files: Mapping[str, Stamp]) -> None:
        """As :meth:`Spool.see`."""
        await self._call(lambda spool: spool.see(source, files))

    async def sources(self) -> list[str]:
        """As :meth:`Spool.sources`."""
        return await self._call(Spool.sources)

    async def counts(self) -> dict[str, int]:
        """As :meth:`Spool.counts`."""
        return await self._call(Spool.counts)

    async def note(self, name: str, default: bytes) -> bytes:
        """As :meth:`SpoolFile.note`."""
        return await self._call(lambda spool: spool.file.note(name, default))

    async def take_note(self, name: str, value: bytes) -> None:
        """As :meth:`SpoolFile.take_note`."""
        await self._call(lambda spool: spool.file.take_note(name, value))

    async def _change(self, work: Callable[[Spool], _Result]) -> _Result:
        result = await self._call(work)
        self._tell()
        return result

    def _tell(self) -> None:
        for event in self._watchers:
            event.set()

    async def _call(self, work: Callable[[Spool], _Result]) -> _Result:
        spool = self._spool
        if spool is None:
            raise OutboxError(f"outbox: {self.path} is not open")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, spool)
