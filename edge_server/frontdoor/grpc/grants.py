"""Grants as the contract says them, and a stream that is told when one of its sessions has another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from edge_server.cell import Cell, Grant, Session
from edge_server.frontdoor.backend import EngineBackend
from edge_server.frontdoor.grpc.downlink import Downlink
from protos.tokenlink.v1 import tokenlink_pb2 as pb

logger = logging.getLogger(__name__)

#: A stream may carry many sessions' questions; of those beyond, grants are had by opening them again.
_MOST_SESSIONS = 256


def grant_message(grant: Grant, valid_s: float) -> pb.Grant:
    """A grant that holds for so long from now [s]."""
    return pb.Grant(
        max_token_length=grant.max_token_length,
        token_length=grant.token_length,
        max_questions_in_flight=grant.max_questions_in_flight,
        max_question_bytes=grant.max_question_bytes,
        bandwidth_hz=grant.bandwidth_hz,
        valid_s=valid_s,
        outage_snr_db=grant.outage_snr_db,
        tx_power_db=grant.tx_power_db,
        channel_uses=grant.channel_uses,
        rounds=grant.rounds,
    )


class GrantUpdates:
    """Follows the sessions that ask over one stream. Of several changes in a row the last is sent.

    Args:
        cell: whose sessions they are.
        downlink: where frames go.
    """

    def __init__(self, cell: Cell[EngineBackend], downlink: Downlink) -> None:
        self._cell = cell
        self._downlink = downlink
        self._followed: dict[str, Callable[[], None]] = {}
        self._telling: dict[str, asyncio.Task[None]] = {}

    def follow(self, session_id: str) -> None:
        """Follow a session, if it is open and not followed yet."""
        if session_id not in self._followed and len(self._followed) < _MOST_SESSIONS:
            self._followed[session_id] = self._cell.follow(session_id, self._changed)

    async def close(self) -> None:
        """Follow nobody any more."""
        for stop in self._followed.values():
            stop()
        telling = list(self._telling.values())
        for task in telling:
            task.cancel()
        if telling:
            await asyncio.wait(telling)

    def _changed(self, session: Session) -> None:
        if session.session_id not in self._telling:
            task = asyncio.create_task(self._tell(session))
            self._telling[session.session_id] = task

    async def _tell(self, session: Session) -> None:
        # What waits for its turn is read by then: a client that reads slowly is told the last grant alone.
        try:
            await self._downlink.write_made(lambda: self._frame(session))
        except ConnectionError as gone:
            logger.debug("a grant found no reader: %s", gone)
            self._telling.pop(session.session_id, None)

    def _frame(self, session: Session) -> pb.DownlinkFrame:
        self._telling.pop(session.session_id, None)
        self._cell.told(session)
        grant = grant_message(session.grant, self._cell.valid_s(session))
        return pb.DownlinkFrame(grant=pb.GrantUpdate(session_id=session.session_id, grant=grant))
