"""Small records that every node of a cluster knows: a bucket, watched.

put ─▶ bucket ─▶ told to every node that watches, each record once and again when it changes
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from nats.js.kv import KeyValue

from edge_server.cluster.buckets import make_bucket
from edge_server.cluster.connection import BrokerError, Connection
from edge_server.cluster.subjects import HUB

logger = logging.getLogger(__name__)

_RETRY_S = 1.0
_IDLE_S = 1.0
_GONE = ("DEL", "PURGE")

Told = Callable[[dict[str, bytes], bool], Awaitable[None]]
"""Is called with records by their keys, and whether these are all that there are."""


class SharedRecords:
    """One bucket. They outlive the end of all brokers at once: they are in files.

    Args:
        connection: to the broker.
        bucket: name.
    """

    def __init__(self, connection: Connection, bucket: str) -> None:
        self._connection = connection
        self._name = bucket
        self._bucket: KeyValue | None = None

    async def put(self, key: str, value: bytes) -> bool:
        """Have everybody told; False where the broker is away, which may be tried again."""
        try:
            bucket = await self._opened()
            await bucket.put(key, value)
        except BrokerError as error:
            logger.debug("a record was not put: %r", error)
            return False
        return True

    @contextlib.asynccontextmanager
    async def watched(self, told: Told) -> AsyncIterator[None]:
        """While the context lasts, tell every record: those that there are, then each that changes.

        Args:
            told: with those that came together; all of them whenever the watch begins.

        Raises:
            ConfigurationError: the broker cannot be reached.
        """
        await self._connection.open()
        watching = asyncio.create_task(self._watch(told), name="tokenlink-records")
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait([watching])
            await self._connection.close()

    async def _watch(self, told: Told) -> None:
        while True:
            try:
                await self._watch_once(told)
            except BrokerError as error:
                logger.debug("records are watched anew: %r", error)
            except Exception:
                logger.exception("records that changed could not be taken; they are looked at again")
            self._bucket = None
            await asyncio.sleep(_RETRY_S)

    async def _watch_once(self, told: Told) -> None:
        watcher = await (await self._opened()).watchall()
        came: dict[str, bytes] = {}
        whole = True
        try:
            while True:
                try:
                    entry = await watcher.updates(timeout=_IDLE_S)  # type: ignore[no-untyped-call]
                except TimeoutError:
                    if not self._connection.up:
                        raise
                    continue
                if entry is not None and entry.operation not in _GONE:
                    came[entry.key] = entry.value or b""
                if entry is None or (came and not whole):
                    await told(came, whole)
                    came, whole = {}, False
        finally:
            with contextlib.suppress(*BrokerError):
                await watcher.stop()  # type: ignore[no-untyped-call]

    async def _opened(self) -> KeyValue:
        if self._bucket is None:
            config = self._connection.config
            self._bucket = await make_bucket(
                self._connection.jet,
                self._name,
                ttl_s=None,
                replicas=config.replicas,
                storage="file",
                copied_from=(HUB,) if config.at_station else (),
            )
        return self._bucket
