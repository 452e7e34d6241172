"""One cell of several doors: its allocator at each of them hears of the others' devices by the cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from edge_server.cell.elsewhere import Away, Reckonable, Share
from protos.tokenlink.v1 import cluster_pb2 as cb

if TYPE_CHECKING:
    from edge_server.cluster.cell_talk import CellTalk


class SharedCell:
    """Implements :class:`edge_server.cell.elsewhere.Elsewhere`.

    Args:
        talk: with the other doors.
    """

    def __init__(self, talk: CellTalk) -> None:
        self._talk = talk

    def running(self) -> AbstractAsyncContextManager[None]:
        """To be entered for as long as the allocator runs."""
        return self._talk.running()

    @property
    def decides(self) -> bool:
        """See :class:`edge_server.cell.elsewhere.Elsewhere`."""
        return self._talk.decides

    @property
    def sessions(self) -> Sequence[Away]:
        """See :class:`edge_server.cell.elsewhere.Elsewhere`."""
        return [
            Away(
                each.session_id,
                each.snr_db,
                tuple(each.mix),
                each.symbols_per_token,
                each.bundle_hash,
                each.deadline_s,
                each.encode_s,
            )
            for each in self._talk.sessions
        ]

    @property
    def told(self) -> Mapping[str, Share]:
        """See :class:`edge_server.cell.elsewhere.Elsewhere`."""
        return {
            each.session_id: Share(each.bandwidth_hz, each.power, each.token_length)
            for each in self._talk.shares.shares
        }

    @property
    def devices(self) -> int:
        """See :class:`edge_server.cell.elsewhere.Elsewhere`."""
        return self._talk.shares.devices

    async def tell(self, sessions: Sequence[Reckonable]) -> None:
        """See :class:`edge_server.cell.elsewhere.Elsewhere`."""
        told = [
            cb.CellSession(
                session_id=each.session_id,
                snr_db=each.snr_db,
                mix=each.mix,
                symbols_per_token=each.symbols_per_token,
                bundle_hash=each.bundle_hash,
                deadline_s=each.deadline_s,
                encode_s=each.encode_s,
            )
            for each in sessions
        ]
        await self._talk.tell(cb.CellSessions(sessions=told))

    async def give(self, shares: Mapping[str, Share]) -> None:
        """See :class:`edge_server.cell.elsewhere.Elsewhere`."""
        told = [
            cb.CellShare(
                session_id=session_id,
                bandwidth_hz=share.bandwidth_hz,
                power=share.power,
                token_length=share.token_length,
            )
            for session_id, share in shares.items()
        ]
        await self._talk.tell(cb.CellShares(shares=told, devices=len(told)))
