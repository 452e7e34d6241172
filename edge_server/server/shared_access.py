"""Doors of a cluster agree on who may come in, each with an access file of its own.

    access file ── changed ──▶ bucket ── told ──▶ every other door's access file

What is written into one file by ``edge-server certs`` and ``keys``, or by enrolment, is in all of them a
second or two later, and counts there from the next frame on, as if it had been written there. A door that the
broker cannot be reached from goes on with what its file says.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from edge_server.access import records
from edge_server.access.records import Record
from edge_server.cluster.ending import end
from edge_server.errors import ConfigurationError

if TYPE_CHECKING:
    from edge_server.cluster.shared_records import SharedRecords

logger = logging.getLogger(__name__)

_LOOK_S = 1.0


class SharedAccess:
    """Keeps an access file and the cluster's records the same.

    Args:
        path: the access file.
        shared: the cluster's records.
        look_s: time between two looks whether the file has changed [s].
    """

    def __init__(self, path: Path, shared: SharedRecords, *, look_s: float = _LOOK_S) -> None:
        self._path = path
        self._shared = shared
        self._look_s = look_s
        self._told: dict[str, Record] = {}
        self._stamp: tuple[int, ...] = ()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """For as long as the server serves."""
        async with self._shared.watched(self._take):
            looking = asyncio.create_task(self._look(), name="tokenlink-shared-access")
            try:
                yield
            finally:
                await end(looking)

    async def _take(self, came: dict[str, bytes | None], whole: bool) -> None:
        """Others say something; or, as a whole, there is nothing else. Nobody takes a record away."""
        heard = {
            name: found
            for name, told in came.items()
            if told is not None and (found := records.read(name, told)) is not None
        }
        if whole:
            self._told, self._stamp = heard, ()
        else:
            self._told |= heard
        await asyncio.to_thread(records.take, self._path, heard)

    async def _look(self) -> None:
        while True:
            try:
                await self._tell()
            except ConfigurationError as error:
                logger.error("the access file is not shared: %s", error)
            except Exception:
                # Whatever it is, what is revoked later still has to reach the others.
                logger.exception("the access file is not shared, and is looked at again")
            await asyncio.sleep(self._look_s)

    async def _tell(self) -> None:
        """Say what the file says otherwise, or beyond, what was heard."""
        stamp = await asyncio.to_thread(self._file_stamp)
        if stamp == self._stamp:
            return
        here = await asyncio.to_thread(records.read_records, self._path)
        done = True
        for name, record in here.items():
            known = self._told.get(name)
            together = record if known is None else records.joined(known, record)
            if together == known:
                continue
            if await self._shared.put(name, records.written(together)):
                self._told[name] = together
            else:
                done = False
        if done:
            self._stamp = stamp

    def _file_stamp(self) -> tuple[int, ...]:
        """Another one after each change: in write-ahead mode that is written beside the file first."""
        beside = (self._path, self._path.with_name(f"{self._path.name}-wal"))
        found: list[int] = []
        for path in beside:
            with contextlib.suppress(OSError):
                about = path.stat()
                found += (about.st_mtime_ns, about.st_size)
        return tuple(found)
