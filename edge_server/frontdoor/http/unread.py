"""What a client does not read: counted while it waits in this process, and not kept for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from edge_server.cell import Hold, SharedBound
from edge_server.errors import AdmissionRefusedError


class Unread:
    """The bytes that wait to be written to one connection, from when they are many.

    Args:
        transport: of the connection; aborted where its client reads nothing for too long.
        hold: counts them.
        within_s: time in which a client has to read something [s].
        refused: told, in one word, of connections that were cut.
    """

    def __init__(
        self, transport: asyncio.Transport, hold: Hold, within_s: float, refused: Callable[[str], None]
    ) -> None:
        self._transport = transport
        self._hold = hold
        self._within_s = within_s
        self._refused = refused
        self._waiting = 0
        self._look: asyncio.TimerHandle | None = None

    def paused(self) -> None:
        """The transport holds more than it likes to."""
        self._waiting = self._transport.get_write_buffer_size()
        try:
            self._hold.add(self._waiting)
        except AdmissionRefusedError as error:
            self._refused(error.reason)
            self._transport.abort()
            return
        self._look_later()

    def resumed(self) -> None:
        """It does no more, or the connection is gone."""
        self._hold.release()
        self._stop_looking()

    def closing(self) -> None:
        """The connection closes once what waits has been read: that, too, has its time."""
        if self._look is None:
            self._waiting = self._transport.get_write_buffer_size()
            self._look_later()

    def look(self) -> None:
        """Whether something has been read since the last look; the connection ends where nothing was."""
        self._stop_looking()
        waiting = self._transport.get_write_buffer_size()
        if waiting < self._waiting:
            self._waiting = waiting
            self._look_later()
            return
        self._refused("slow_reader")
        self._transport.abort()

    def _look_later(self) -> None:
        self._stop_looking()
        self._look = asyncio.get_running_loop().call_later(self._within_s, self.look)

    def _stop_looking(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None


class Connections:
    """What all connections of a door have together.

    Args:
        places: how many there may be.
        held: bytes that are in memory for them.
        within_s: time for the headers of a request to arrive, and for an answer to be read on [s].
        refused: told, in one word, of connections that were cut.
    """

    def __init__(
        self, places: SharedBound, held: SharedBound, within_s: float, refused: Callable[[str], None]
    ) -> None:
        self.places = places
        self.held = held
        self.within_s = within_s
        self.refused = refused

    def unread(self, transport: asyncio.Transport, holder: str) -> Unread:
        """What one connection's client does not read."""
        return Unread(transport, self.held.hold(holder), self.within_s, self.refused)


def address_of(transport: asyncio.BaseTransport) -> str:
    """Where a connection comes from, without its port."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) and peer else "unknown"
