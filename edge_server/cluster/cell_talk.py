"""What doors of one cell tell one another of their devices, and whoever shares the cell out tells them all.

What is lost is told again soon; who was not heard of for :data:`edge_server.cluster.members.GONE_S` is gone,
and its devices with it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable

from nats.aio.msg import Msg

from edge_server.cluster.connection import BrokerError, Connection
from edge_server.cluster.lease import Lease
from edge_server.cluster.members import GONE_S
from edge_server.cluster.subjects import CELL_SESSIONS, CELL_SHARES
from protos.tokenlink.v1 import cluster_pb2 as cb

LEASE = "cell"


class CellTalk:
    """This door's part of it. One door decides: the holder of a lease.

    Args:
        connection: to the broker.
        clock: monotonic seconds.
    """

    def __init__(self, connection: Connection, clock: Callable[[], float] = time.monotonic) -> None:
        self._connection = connection
        self._clock = clock
        self._lease = Lease(connection, LEASE, clock=clock)
        self._doors: dict[str, tuple[float, cb.CellSessions]] = {}
        self._shares = cb.CellShares()

    @property
    def decides(self) -> bool:
        """Whether this door shares out the cell."""
        return self._lease.held

    @property
    def sessions(self) -> list[cb.CellSession]:
        """Those of the other doors."""
        since_s = self._clock() - GONE_S
        for node in [node for node, (at_s, _) in self._doors.items() if at_s < since_s]:
            del self._doors[node]
        return [session for _, told in self._doors.values() for session in told.sessions]

    @property
    def shares(self) -> cb.CellShares:
        """What was decided last, here or by another: a door that decides no more knows what holds."""
        return self._shares

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen, and try to be the one, while the context lasts.

        Raises:
            ConfigurationError: the broker cannot be reached.
        """
        async with self._lease.running():
            client = self._connection.client
            heard = [
                await client.subscribe(CELL_SESSIONS, cb=self._on_sessions),
                await client.subscribe(CELL_SHARES, cb=self._on_shares),
            ]
            try:
                yield
            finally:
                for subscription in heard:
                    with contextlib.suppress(*BrokerError):
                        await subscription.unsubscribe()

    async def tell(self, told: cb.CellSessions | cb.CellShares) -> None:
        """Tell the others this door's devices, or what it has decided, which counts as told here too."""
        told.node = self._connection.node
        if isinstance(told, cb.CellShares):
            self._shares = told
        subject = CELL_SESSIONS if isinstance(told, cb.CellSessions) else CELL_SHARES
        with contextlib.suppress(*BrokerError):
            await self._connection.client.publish(subject, told.SerializeToString())

    async def _on_sessions(self, message: Msg) -> None:
        told = cb.CellSessions.FromString(message.data)
        if told.node != self._connection.node:
            self._doors[told.node] = (self._clock(), told)

    async def _on_shares(self, message: Msg) -> None:
        told = cb.CellShares.FromString(message.data)
        if told.node != self._connection.node:
            self._shares = told
