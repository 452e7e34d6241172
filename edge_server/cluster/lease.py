"""One of several nodes does what only one may: whoever holds a lease.

    create ──▶ held ──renew, thrice in its time──▶ held …
                 └── node dies, or does not reach the broker ──▶ it ends by itself ──▶ another creates it

A holder believes in its lease for less time than the broker does: from before it asked. So two never hold it
at once, whatever is slow; for up to its time, nobody does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable

import nats.js.errors
from nats.js.kv import KeyValue

from edge_server.cluster.buckets import make_bucket
from edge_server.cluster.connection import BrokerError, Connection
from edge_server.cluster.ending import end
from edge_server.cluster.subjects import LEASES

logger = logging.getLogger(__name__)

TTL_S = 6.0


class Lease:
    """A lease of this cluster.

    Args:
        connection: to the broker.
        name: of the lease; letters, digits, ``-`` and ``_``.
        ttl_s: how long it holds without being renewed [s]; the same at all nodes.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        connection: Connection,
        name: str,
        *,
        ttl_s: float = TTL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._name = name
        self._ttl_s = ttl_s
        self._clock = clock
        self._bucket: KeyValue | None = None
        self._revision = 0
        self._until_s = 0.0

    @property
    def held(self) -> bool:
        """Whether this node holds it now."""
        return self._clock() < self._until_s

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Try to hold it while the context lasts; then it is let go.

        Raises:
            ConfigurationError: the broker cannot be reached.
        """
        await self._connection.open()
        trying = asyncio.create_task(self._try_on(), name=f"tokenlink-lease-{self._name}")
        try:
            yield
        finally:
            await end(trying)
            await self._let_go()
            await self._connection.close()

    async def _try_on(self) -> None:
        while True:
            try:
                await self._try()
            except BrokerError as error:
                logger.debug("the lease %s was not asked for: %r", self._name, error)
                # A broker that came back without what it kept in memory has no bucket any more.
                self._bucket = None
            await asyncio.sleep(self._ttl_s / 3)

    async def _try(self) -> None:
        if self._bucket is None:
            config = self._connection.config
            self._bucket = await make_bucket(
                self._connection.jet,
                LEASES,
                ttl_s=self._ttl_s,
                replicas=config.replicas,
                storage=config.storage,
            )
        asked_s, node, before = self._clock(), self._connection.node.encode(), self.held
        try:
            if before:
                self._revision = await self._bucket.update(self._name, node, self._revision)
            else:
                self._revision = await self._bucket.create(self._name, node)
        except nats.js.errors.KeyWrongLastSequenceError:
            self._until_s = 0.0  # another has it
            return
        self._until_s = asked_s + self._ttl_s
        if not before:
            logger.info("holds the lease %s", self._name, extra={"node": self._connection.node})

    async def _let_go(self) -> None:
        if self.held and self._bucket is not None:
            self._until_s = 0.0
            with contextlib.suppress(*BrokerError):
                await self._bucket.delete(self._name, last=self._revision)
