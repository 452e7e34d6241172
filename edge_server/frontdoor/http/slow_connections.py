"""HTTP connections whose requests do not arrive: uvicorn closes idle ones only after a first answer.

From the moment a connection opens, and again after each answer, the headers of the next request have a fixed
time to be there as a whole, and a fixed size. What comes in single bytes does not earn more time. The rest
of a body that was answered before its end is thrown away for as long, so that its sender reads the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEADER_BYTES = 64 * 1024


def bounded_protocol(within_s: float, refused: Callable[[str], None]) -> type[asyncio.Protocol]:
    """The HTTP protocol of uvicorn, with a deadline for headers.

    Args:
        within_s: time for the headers of a request [s].
        refused: told, in one word, of connections that were cut.
    """

    class Bounded(HttpToolsProtocol):
        """One connection."""

        _deadline: asyncio.TimerHandle | None = None
        _header_bytes = 0
        _in_body = False

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._wait_for_headers()

        def data_received(self, data: bytes) -> None:
            waiting = self._deadline is not None
            super().data_received(data)
            if waiting and self._deadline is not None and not self._in_body:
                self._header_bytes += len(data)
                if self._header_bytes > MAX_HEADER_BYTES:
                    refused("too_large")
                    self._cut()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            if self._deadline is None:
                self._wait_for_headers()

        def on_headers_complete(self) -> None:
            self._stop_waiting()
            self._in_body = True
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._stop_waiting()
            self._in_body = False
            super().on_message_complete()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self._in_body and self._deadline is None:
                self._wait(within_s)

        def handle_websocket_upgrade(self) -> None:
            self._stop_waiting()
            super().handle_websocket_upgrade()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def _wait_for_headers(self) -> None:
            self._header_bytes = 0
            self._wait(within_s)

        def _wait(self, seconds: float) -> None:
            self._deadline = self.loop.call_later(seconds, self._too_late)

        def _stop_waiting(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _too_late(self) -> None:
            refused("slow_sender")
            self._cut()

        def _cut(self) -> None:
            self._stop_waiting()
            self.transport.abort()

    return Bounded
