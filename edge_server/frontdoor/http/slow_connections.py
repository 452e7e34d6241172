"""HTTP connections whose requests do not arrive: uvicorn closes idle ones only after a first answer.

From the moment a connection opens, and again after each answer, the headers of the next request have a fixed
time to be there as a whole, and a fixed size. What comes in single bytes does not earn more time. The rest
of a body that was answered before its end is thrown away for as long, so that its sender reads the answer.

uvicorn takes any number of header lines, of trailers behind a body, and of requests sent ahead; here each has
a bound, connections are counted by address, and so is what their clients do not read.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol

from edge_server.cell import Hold
from edge_server.errors import AdmissionRefusedError
from edge_server.frontdoor.http.unread import Connections, Unread, address_of
from edge_server.frontdoor.senders_deadline import SendersDeadline

MAX_HEADER_BYTES = 64 * 1024
MAX_HEADERS = 128
MAX_SENT_AHEAD = 16
"""Requests that are sent before the one ahead of them is answered."""
MAX_THROWN_AWAY_BYTES = 64 * 2**20
MAX_WEBSOCKET_BYTES = 256 * 1024
"""Of one message from a browser: the page's are a few hundred."""

_OF_AN_UPGRADE = frozenset({b"upgrade", b"http2-settings"})
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)


def bounded_protocol(connections: Connections) -> type[asyncio.Protocol]:
    """The HTTP protocol of uvicorn, with a deadline for headers, and bounds.

    Args:
        connections: what all of them have together.
    """
    within_s, refused = connections.within_s, connections.refused

    class Bounded(HttpToolsProtocol):
        """One connection."""

        _deadline: SendersDeadline | None = None
        _header_bytes = _headers = _without_body = _thrown_away = 0
        _in_body = _body_came = _has_place = False
        _unread: Unread
        _arriving: Hold
        _holder = ""
        _received = b""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._holder = address_of(transport)
            self._unread = connections.unread(transport, self._holder)
            self._arriving = connections.held.hold(self._holder)
            try:
                connections.places.take(self._holder)
            except AdmissionRefusedError as error:
                refused(error.reason)
                transport.write(_FULL)
                transport.close()
                self._unread.closing()
                return
            self._has_place = True
            self._wait_for_headers()

        def data_received(self, data: bytes) -> None:
            if not self._has_place:
                return
            waiting = self._deadline is not None
            self._body_came = False
            self._received = data
            super().data_received(data)
            if waiting and self._deadline is not None and not self._in_body:
                self._header_bytes += len(data)
                self._hold_header(len(data))
            elif self._in_body:
                self._look_behind_body(len(data))

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._headers = self._without_body = self._thrown_away = 0
            if self._deadline is None:
                self._wait_for_headers()

        @property
        def _stays_http(self) -> bool:
            """Whether a protocol is offered that is not spoken here: the request is HTTP all the same."""
            return (
                self.parser.should_upgrade()
                and self.parser.get_method() != b"CONNECT"
                and not self._should_upgrade()
            )

        def on_header(self, name: bytes, value: bytes) -> None:
            if self._in_body:
                return  # a trailer: nobody reads it, and none may look like a header
            self._headers += 1
            if self._headers > MAX_HEADERS or len(value) > MAX_HEADER_BYTES:
                refused("too_large")
                raise HttpParserError("too many headers")
            super().on_header(name, value)

        def on_headers_complete(self) -> None:
            if self._stays_http:
                return  # comes again, without the offer
            self._stop_waiting()
            if len(self.pipeline) >= MAX_SENT_AHEAD:
                refused("too_large")
                raise HttpParserError("too many requests were sent ahead")
            self._in_body = True
            super().on_headers_complete()
            if self.scope["http_version"] == "1.0":
                self.cycle.send = _ended_by_closing(self.cycle)  # type: ignore[assignment,method-assign]

        def on_body(self, body: bytes) -> None:
            self._body_came = True
            super().on_body(body)

        def on_message_complete(self) -> None:
            if self._stays_http:
                return
            self._stop_waiting()
            self._in_body = False
            super().on_message_complete()

        def _unsupported_upgrade_warning(self) -> None:
            # Java's clients offer h2c with whatever they ask. httptools takes what follows the headers for
            # the other protocol: the body was lost. Its exception, under way here, says where that begins.
            offered = sys.exception()
            if not isinstance(offered, HttpParserUpgrade) or not self._stays_http:
                return
            head = [self.parser.get_method(), b" ", self.url, b" HTTP/1.1\r\n"]
            for name, value in self.headers:
                if name == b"connection":
                    tokens = (token.strip() for token in value.split(b","))
                    value = b", ".join(token for token in tokens if token.lower() not in _OF_AN_UPGRADE)
                if value and name not in _OF_AN_UPGRADE:
                    head += [name, b": ", value, b"\r\n"]
            self.parser = HttpRequestParser(self)
            # uvicorn's own setting, so that a request behind one that closes is told apart.
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self._received = b"".join((*head, b"\r\n", self._received[offered.args[0] :]))
            super().data_received(self._received)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.transport.is_closing():
                self._unread.closing()
            elif self._in_body and self._deadline is None:
                self._wait(within_s)

        def timeout_keep_alive_handler(self) -> None:
            super().timeout_keep_alive_handler()
            self._unread.closing()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._unread.paused()

        def resume_writing(self) -> None:
            super().resume_writing()
            self._unread.resumed()

        def handle_websocket_upgrade(self) -> None:
            # Its protocol takes a place of its own.
            self._leave()
            super().handle_websocket_upgrade()

        def connection_lost(self, exc: Exception | None) -> None:
            self._leave()
            super().connection_lost(exc)

        def _leave(self) -> None:
            self._stop_waiting()
            self._unread.resumed()
            if self._has_place:
                self._has_place = False
                connections.places.give(self._holder)

        def _hold_header(self, size_bytes: int) -> None:
            if self._header_bytes > MAX_HEADER_BYTES:
                refused("too_large")
                self._cut()
                return
            try:
                self._arriving.add(size_bytes)
            except AdmissionRefusedError as error:
                refused(error.reason)
                self._cut()

        def _look_behind_body(self, size_bytes: int) -> None:
            self._without_body = 0 if self._body_came else self._without_body + size_bytes
            if self.cycle is not None and self.cycle.response_complete:
                self._thrown_away += size_bytes
            if self._without_body > MAX_HEADER_BYTES or self._thrown_away > MAX_THROWN_AWAY_BYTES:
                refused("too_large")
                self._cut()

        def _wait_for_headers(self) -> None:
            self._header_bytes = 0
            self._wait(within_s)

        def _wait(self, seconds: float) -> None:
            self._deadline = SendersDeadline(self.loop, self.loop.time() + seconds, self._too_late)

        def _stop_waiting(self) -> None:
            self._arriving.release()
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


def _ended_by_closing(cycle: Any) -> Callable[[MutableMapping[str, Any]], Awaitable[None]]:
    """How an answer to HTTP/1.0 is sent: no such client knows chunks (RFC 9112, 6.1).

    Without a length, its end is the connection's.
    """
    send = cycle.send
    by_closing = False

    async def unchunked(message: MutableMapping[str, Any]) -> None:
        nonlocal by_closing
        if message["type"] == "http.response.start":
            by_closing = all(name.lower() != b"content-length" for name, _ in message.get("headers", ()))
            cycle.chunked_encoding = False if by_closing else None
        elif by_closing:
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    return unchunked


def bounded_websocket(connections: Connections) -> type[asyncio.Protocol] | None:
    """The WebSocket protocol that uvicorn would take, counted like other connections; None: there is none.

    Args:
        connections: what all of them have together.
    """
    if AutoWebSocketsProtocol is None:
        return None
    base: Any = AutoWebSocketsProtocol

    class Bounded(base):  # type: ignore[misc]
        """One connection."""

        _has_place = False
        _holder = ""
        _unread: Unread

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._holder = address_of(transport)
            self._unread = connections.unread(transport, self._holder)
            try:
                connections.places.take(self._holder)
            except AdmissionRefusedError as error:
                connections.refused(error.reason)
                transport.abort()
                return
            self._has_place = True

        def pause_writing(self) -> None:
            super().pause_writing()
            self._unread.paused()

        def resume_writing(self) -> None:
            super().resume_writing()
            self._unread.resumed()

        def connection_lost(self, exc: Exception | None) -> None:
            self._unread.resumed()
            if self._has_place:
                self._has_place = False
                connections.places.give(self._holder)
            super().connection_lost(exc)

    return Bounded
