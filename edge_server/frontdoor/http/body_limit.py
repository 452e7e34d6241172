"""Takes in HTTP bodies: bounded in bytes, in time and in shape, before anything is parsed.

A body is read as a whole here, and handed on in one piece. What it exceeds ends the request with an answer
that names it; a sender that is too slow gets 408, however steadily it sends. Where no body belongs none is
read. What has been read counts against one bound over all requests, until its request is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_server.cell import Hold, Limits, Peer, SharedBound
from edge_server.errors import AdmissionRefusedError, EdgeServerError, OverloadedError
from edge_server.frontdoor.http.errors import http_response, response_of
from edge_server.frontdoor.http.json_shape import check_json_shape

PEER = "tokenlink.peer"
"""Key of the ASGI scope under which stands who asks."""

_LOOKED_AT_AT_ONCE_BYTES = 64 * 1024
"""Longer bodies are looked at on a thread: it takes milliseconds."""


class BodyLimit:
    """ASGI middleware.

    Args:
        app: what to protect.
        max_bytes: largest body.
        within_s: time for a body to arrive [s].
        limits: on the bytes of each API key.
        held: bytes of bodies that are in memory, of everybody.
        takes_body: whether a body belongs to a method and a path.
        refused: told, in one word, of bodies that were cut off.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_bytes: int,
        within_s: float,
        limits: Limits,
        held: SharedBound,
        takes_body: Callable[[str, str], bool],
        refused: Callable[[str], None],
    ) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._within_s = within_s
        self._limits = limits
        self._held = held
        self._takes_body = takes_body
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass with its body, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self._held.hold(holder_of(scope)) as hold:
            await self._with_body(scope, receive, send, hold)

    async def _with_body(self, scope: Scope, receive: Receive, send: Send, hold: Hold) -> None:
        try:
            body = await self._body(scope, receive, hold)
            if body is None:
                return  # the client has gone
            if body and _may_be_json(scope):
                if len(body) <= _LOOKED_AT_AT_ONCE_BYTES:
                    check_json_shape(body)
                else:
                    await asyncio.to_thread(check_json_shape, body)
        except HTTPException as error:
            await http_response(scope["method"], scope["path"], error)(scope, receive, send)
            return
        except EdgeServerError as error:
            await self._refuse(error, scope, receive, send)
            return
        handed_on = False

        async def replay() -> Message:
            nonlocal handed_on
            if handed_on:
                return await receive()
            handed_on = True
            return {"type": "http.request", "body": body, "more_body": False}

        try:
            with self._limits.stream(scope.get(PEER)):
                await self._app(scope, replay, send)
        except AdmissionRefusedError as error:
            await self._refuse(error, scope, receive, send)

    async def _refuse(self, error: EdgeServerError, scope: Scope, receive: Receive, send: Send) -> None:
        self._refused(error.reason if isinstance(error, OverloadedError) else "invalid")
        await response_of(error)(scope, receive, send)

    async def _body(self, scope: Scope, receive: Receive, hold: Hold) -> bytes | None:
        if not self._takes_body(scope["method"], scope["path"]):
            if _brings_body(scope):
                self._refused("no_body_here")
                raise HTTPException(413, "takes no body")
            # Taken all the same: what comes after it says that the client is gone, and nothing else.
            return b"" if (await receive())["type"] == "http.request" else None
        self._check_size(_content_length(scope))
        peer: Peer | None = scope.get(PEER)
        if scope["method"] == "POST":
            self._limits.spend(peer, questions=1)
        pieces: list[bytes] = []
        read_bytes = 0
        try:
            async with asyncio.timeout(self._within_s):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        return None
                    piece = message.get("body", b"")
                    read_bytes += len(piece)
                    self._check_size(read_bytes)
                    self._limits.spend(peer, size_bytes=len(piece))
                    hold.add(len(piece))
                    pieces.append(piece)
                    if not message.get("more_body", False):
                        return b"".join(pieces)
        except TimeoutError as error:
            self._refused("slow_sender")
            raise HTTPException(
                408,
                f"the body did not arrive within {self._within_s:g} s; {read_bytes} bytes of it did",
                # Nobody waits for the rest.
                {"Connection": "close"},
            ) from error

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._max_bytes:
            self._refused("too_large")
            raise HTTPException(413, f"the body is larger than the {self._max_bytes} bytes that are allowed")


def holder_of(scope: Scope) -> str:
    """For whom a request's bytes are held: whose key it came with, or where it comes from."""
    peer: Peer | None = scope.get(PEER)
    if peer is not None:
        return peer.name
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


def _brings_body(scope: Scope) -> bool:
    return _content_length(scope) > 0 or any(name == b"transfer-encoding" for name, _ in scope["headers"])


def _content_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


def _may_be_json(scope: Scope) -> bool:
    # FastAPI parses a body as JSON also where no type is named.
    types = [value for name, value in scope["headers"] if name == b"content-type"]
    return not types or b"json" in types[0].lower()
