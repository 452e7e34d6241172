"""The connection to the broker: one for a process, whatever it is of the cluster."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext, api
from nats.js.kv import KeyValue

from edge_server.cluster.buckets import IN_USE, make_bucket
from edge_server.cluster.settings import ClusterConfig
from edge_server.cluster.subjects import CLAIMS, CONSUMER, QueueSubjects
from edge_server.errors import ConfigurationError

logger = logging.getLogger(__name__)

_RETRY_S = 0.2
_MAX_IN_HAND = 100_000
_Result = TypeVar("_Result")

BrokerError: tuple[type[Exception], ...] = (nats.errors.Error, TimeoutError, OSError)
"""What a broker that is away, or between two leaders, raises; all of it may be tried again."""


class Connection:
    """Opened by whoever needs it first, closed by whoever needs it last.

    Args:
        config: where the servers are.
        kept_s: how long an answer is kept that its device has not acknowledged [s].
        window_s: within this time, a question that is published twice is one [s].
    """

    def __init__(self, config: ClusterConfig, *, kept_s: float, window_s: float) -> None:
        self.config = config
        self.node = config.node or f"{socket.gethostname().split('.')[0]}-{os.getpid()}"
        self._kept_s, self._window_s = kept_s, window_s
        self._client: Client | None = None
        self._jet: JetStreamContext | None = None
        self._claims: KeyValue | None = None
        self._users = 0
        self._lock = asyncio.Lock()

    @property
    def up(self) -> bool:
        """Whether a server is reached now."""
        return self._client is not None and self._client.is_connected

    @property
    def client(self) -> Client:
        """While it is open."""
        assert self._client is not None  # noqa: S101 - who uses it has opened it
        return self._client

    @property
    def jet(self) -> JetStreamContext:
        """JetStream, while it is open."""
        assert self._jet is not None  # noqa: S101
        return self._jet

    @property
    def claims(self) -> KeyValue:
        """Who runs what, and its answer, while it is open."""
        assert self._claims is not None  # noqa: S101
        return self._claims

    async def open(self) -> None:
        """Connect, unless that is done.

        Raises:
            ConfigurationError: the servers cannot be reached, or refuse us.
        """
        async with self._lock:
            self._users += 1
            if self._client is not None:
                return
            try:
                self._client = await self._connected()
                self._jet = self._client.jetstream(timeout=2.0)
                self._claims = await self._insist(self._claims_bucket, self.config.connect_s)
            except BaseException:
                self._users -= 1
                await self._close()
                raise
            logger.info("joined the cluster", extra={"node": self.node, "role": self.config.role})

    async def close(self) -> None:
        """Disconnect, once nobody needs it any more."""
        async with self._lock:
            self._users -= 1
            if not self._users:
                await self._close()

    async def make_queue(self, subjects: QueueSubjects) -> None:
        """Have the work queue of a model, with its consumer.

        Raises:
            ConfigurationError: the servers do not make it.
        """
        config = self.config
        storage = api.StorageType(config.storage)
        stream = api.StreamConfig(
            name=subjects.stream,
            subjects=[subjects.work],
            retention=api.RetentionPolicy.WORK_QUEUE,
            discard=api.DiscardPolicy.NEW,
            storage=storage,
            num_replicas=config.replicas,
            # A question lives no longer than its deadline, which this is above.
            max_age=2 * self._window_s,
            duplicate_window=self._window_s,
        )
        consumer = api.ConsumerConfig(
            durable_name=CONSUMER,
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=config.ack_wait_s,
            max_ack_pending=_MAX_IN_HAND,
            mem_storage=storage is api.StorageType.MEMORY,
            num_replicas=config.replicas,
        )

        async def make() -> None:
            try:
                await self.jet.add_stream(stream)
            except nats.js.errors.APIError as error:
                if error.err_code != IN_USE:
                    raise
            await self.jet.add_consumer(subjects.stream, consumer)

        await self._insist(make, config.connect_s)

    async def _claims_bucket(self) -> KeyValue:
        config = self.config
        return await make_bucket(
            self.jet,
            CLAIMS,
            ttl_s=self._kept_s,
            replicas=config.replicas,
            storage=config.storage,
            copied_from=config.stations,
        )

    async def _connected(self) -> Client:
        config, client = self.config, Client()

        async def log(error: Exception) -> None:
            logger.debug("the broker: %r", error)

        async def gone() -> None:
            if self._client is not client:
                return
            logger.warning(
                "the connection to the broker is gone; others are tried", extra={"node": self.node}
            )

        connecting = client.connect(
            servers=config.addresses,
            name=f"tokenlink {config.role} {self.node}",
            error_cb=log,
            disconnected_cb=gone,
            max_reconnect_attempts=-1,
            reconnect_time_wait=_RETRY_S,  # type: ignore[arg-type] # of seconds, any number
            connect_timeout=2,
            ping_interval=2,
            max_outstanding_pings=2,
            pending_size=64 * 2**20,
            # Apart by role, so that permissions can keep doors from what engines pull.
            inbox_prefix=f"_INBOX.{config.role}",
            tls=self._tls(),
            user_credentials=str(config.user_credentials) if config.user_credentials is not None else None,
        )
        try:
            await asyncio.wait_for(connecting, config.connect_s)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            with contextlib.suppress(Exception):
                await client.close()
            why = str(error) or f"no answer within {config.connect_s:g} s"
            raise ConfigurationError(f"cluster: cannot join {config.shown}: {why}") from error
        return client

    def _tls(self) -> ssl.SSLContext | None:
        config = self.config
        if config.nats_ca is None:
            return None
        try:
            context = ssl.create_default_context(cafile=str(config.nats_ca))
            if config.nats_cert is not None and config.nats_key is not None:
                context.load_cert_chain(config.nats_cert, config.nats_key)
        except OSError as error:
            raise ConfigurationError(f"nats_ca, nats_cert, nats_key: cannot be read: {error}") from error
        return context

    async def _insist(self, make: Callable[[], Awaitable[_Result]], within_s: float) -> _Result:
        """Ask for something until servers that have only just started are able to give it."""
        ends_s = time.monotonic() + within_s
        while True:
            try:
                return await make()
            except BrokerError as error:
                if time.monotonic() > ends_s:
                    raise ConfigurationError(
                        f"cluster: {self.config.shown} gives no queue of {self.config.replicas} replicas: "
                        f"{error}; JetStream has to be on (nats-server --jetstream), and replicas be there"
                    ) from error
            await asyncio.sleep(_RETRY_S)

    async def _close(self) -> None:
        client, self._client, self._jet, self._claims = self._client, None, None, None
        if client is not None:
            with contextlib.suppress(*BrokerError):
                await asyncio.wait_for(client.drain(), 2.0)
            if not client.is_closed:
                await client.close()
