"""Small records that every node of a cluster knows: a bucket, watched.

put ─▶ bucket ─▶ told to every node that watches, each record once and again when it changes
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from nats.js.errors import KeyNotFoundError
from nats.js.kv import KeyValue

from edge_server.cluster.buckets import make_bucket
from edge_server.cluster.connection import BrokerError, Connection
from edge_server.cluster.ending import end
from edge_server.cluster.subjects import HUB

logger = logging.getLogger(__name__)

_RETRY_S = 1.0
_IDLE_S = 1.0
_GONE = ("DEL", "PURGE")

Told = Callable[[dict[str, bytes | None], bool], Awaitable[None]]
"""Is called with records by their keys, None for one that was taken away, and whether there are no others."""


class SharedRecords:
    """One bucket. They outlive the end of all brokers at once: they are in files.

    Args:
        connection: to the broker.
        bucket: name.
        ttl_s: how long a record is kept [s]; None: for good.
        max_bytes: of all records; the oldest go; None: none do.
        names_only: whether a watch tells empty bytes in place of what is in a record: it can be got.
        from_cluster: whether a base station's broker copies the records of the cluster's.
    """

    def __init__(
        self,
        connection: Connection,
        bucket: str,
        *,
        ttl_s: float | None = None,
        max_bytes: int | None = None,
        names_only: bool = False,
        from_cluster: bool = False,
    ) -> None:
        self._connection = connection
        self._name = bucket
        self._ttl_s, self._max_bytes = ttl_s, max_bytes
        self._names_only = names_only
        self._from_cluster = from_cluster
        self._bucket: KeyValue | None = None

    @property
    def largest_bytes(self) -> int:
        """Of a record that the broker takes, while it is watched."""
        return self._connection.client.max_payload

    async def put(self, key: str, value: bytes) -> bool:
        """Have everybody told; False where the broker is away, which may be tried again."""
        try:
            bucket = await self._opened()
            await bucket.put(key, value)
        except BrokerError as error:
            logger.debug("a record was not put: %r", error)
            return False
        return True

    async def get(self, key: str) -> bytes | None:
        """A record; None: there is none.

        Raises:
            OSError: the broker is away.
        """
        try:
            return (await (await self._opened()).get(key)).value or b""
        except KeyNotFoundError:
            return None
        except BrokerError as error:
            raise ConnectionError(f"a record cannot be got: {error!r}") from error

    async def take_away(self, key: str) -> bool:
        """Have everybody told that there is no such record any more; False where the broker is away."""
        try:
            await (await self._opened()).purge(key)
        except BrokerError as error:
            logger.debug("a record was not taken away: %r", error)
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
            await end(watching)
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
        watcher = await (await self._opened()).watch(">", meta_only=self._names_only)
        client = self._connection.client
        joined = client.stats["reconnects"]
        came: dict[str, bytes | None] = {}
        whole = True
        try:
            while True:
                try:
                    async with asyncio.timeout(_IDLE_S):
                        entry = await anext(watcher)
                except TimeoutError:
                    # A broker that came back meanwhile knows of no watch; that would be missed later.
                    if not self._connection.up or client.stats["reconnects"] != joined:
                        raise
                    continue
                if entry is not None:
                    came[entry.key] = None if entry.operation in _GONE else entry.value or b""
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
                ttl_s=self._ttl_s,
                replicas=config.replicas,
                storage="file",
                max_bytes=self._max_bytes,
                copied_from=(HUB,) if self._from_cluster and config.at_station else (),
            )
        return self._bucket
