"""Takes in HTTP bodies: bounded in bytes, in time and in shape, before anything is parsed.

A body is read as a whole here, and handed on in one piece. Media in JSON goes into files meanwhile
(:mod:`edge_server.frontdoor.http.spool`); a file that is uploaded is handed on as it comes. What a body
exceeds ends the request with an answer that names it; a sender that is too slow gets 408, however steadily it
sends. Where no body belongs none is read. What has been read counts against one bound over all requests, and
media against another, until its request is over.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_server.cell import Hold, Limits, Peer, SharedBound
from edge_server.errors import AdmissionRefusedError, EdgeServerError, OverloadedError
from edge_server.frontdoor.http.errors import http_response, response_of
from edge_server.frontdoor.http.json_shape import check_json_shape
from edge_server.frontdoor.http.spool import SPOOLED, BodySpool
from edge_server.frontdoor.senders_deadline import sent_within

PEER = "tokenlink.peer"
"""Key of the ASGI scope under which stands who asks."""

_MOST_SHOWN = 64
"""Characters of a header."""
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
        uploads: bytes of media that are in files, likewise.
        max_upload_bytes: of the media of one body, beside ``max_bytes`` of everything else.
        folder: on whose disk media lies; None: that of temporary files.
        takes_body: whether a body belongs to a method and a path.
        is_there: whether there is anything at a path; what is not there is told by the routes.
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
        uploads: SharedBound,
        max_upload_bytes: int,
        folder: Path | None,
        takes_body: Callable[[str, str], bool],
        is_there: Callable[[str], bool],
        refused: Callable[[str], None],
    ) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._within_s = within_s
        self._limits = limits
        self._held = held
        self._uploads = uploads
        self._max_upload_bytes = max_upload_bytes
        self._folder = folder
        self._takes_body = takes_body
        self._is_there = is_there
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass with its body, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        coding = _content_coding(scope)
        if coding and self._takes_body(scope["method"], scope["path"]):
            self._refused("invalid")
            problem = (
                f"Content-Encoding is {coding[:_MOST_SHOWN]!r}; a body is taken as it is, not compressed"
            )
            error = HTTPException(415, problem, {"Accept-Encoding": "identity"})
            await http_response(scope["method"], scope["path"], error)(scope, receive, send)
            return
        holder = holder_of(scope)
        with self._held.hold(holder) as hold, self._uploads.hold(holder) as uploads:
            if _is_form(scope) and self._takes_body(scope["method"], scope["path"]):
                await self._form(scope, receive, send, uploads)
            else:
                await self._with_body(scope, receive, send, hold, uploads)

    async def _form(self, scope: Scope, receive: Receive, send: Send, uploads: Hold) -> None:
        """A file that is uploaded: whoever takes it keeps it on disk, and gets it as it comes."""
        most = self._max_bytes + self._max_upload_bytes
        if _content_length(scope) > most:
            self._refused("too_large")
            error = HTTPException(413, f"the body is larger than the {most} bytes that are allowed")
            await http_response(scope["method"], scope["path"], error)(scope, receive, send)
            return
        read_bytes = 0
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def counted() -> Message:
            nonlocal read_bytes
            left_s = began + self._seconds_for(read_bytes) - loop.time()
            try:
                async with sent_within(left_s if read_bytes < most else math.inf):
                    message = await receive()
            except TimeoutError:
                self._refused("slow_sender")
                return {"type": "http.disconnect"}
            if message["type"] == "http.request":
                size = len(message.get("body", b""))
                read_bytes += size if message.get("more_body", False) or size else 0
                self._limits.spend(scope.get(PEER), size_bytes=size)
                if read_bytes > most:
                    self._refused("too_large")
                    return {"type": "http.disconnect"}
                uploads.add(size)
                if not message.get("more_body", False):
                    read_bytes = most  # what comes after it is that the client goes
            return message

        try:
            with self._limits.stream(scope.get(PEER)):
                await self._app(scope, counted, send)
        except AdmissionRefusedError as error:
            await self._refuse(error, scope, receive, send)

    def _seconds_for(self, read_bytes: int) -> float:
        """Time for a body to arrive, by what has arrived: it may be large, not slow [s]."""
        return self._within_s * max(read_bytes / self._max_bytes, 1.0)

    async def _with_body(self, scope: Scope, receive: Receive, send: Send, hold: Hold, uploads: Hold) -> None:
        try:
            body = await self._body(scope, receive, hold, uploads)
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

    async def _body(self, scope: Scope, receive: Receive, hold: Hold, uploads: Hold) -> bytes | None:
        if not self._takes_body(scope["method"], scope["path"]):
            if _brings_body(scope):
                self._refused("no_body_here")
                if not self._is_there(scope["path"]):
                    return b""
                raise HTTPException(413, "takes no body")
            # Taken all the same: what comes after it says that the client is gone, and nothing else.
            return b"" if (await receive())["type"] == "http.request" else None
        spool = BodySpool(self._folder) if _may_be_json(scope) else None
        # Base64 takes a third more than what it says.
        more = -(-4 * self._max_upload_bytes // 3) if spool is not None else 0
        self._check_size(_content_length(scope) - more)
        peer: Peer | None = scope.get(PEER)
        if scope["method"] == "POST":
            self._limits.spend(peer, questions=1)
        pieces: list[bytes] = []
        read_bytes = held_bytes = 0
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with sent_within(self._within_s) as deadline:
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        return None
                    piece = message.get("body", b"")
                    read_bytes += len(piece)
                    self._limits.spend(peer, size_bytes=len(piece))
                    if spool is None:
                        hold.add(len(piece))
                        self._check_size(read_bytes)
                        pieces.append(piece)
                    else:
                        before = spool.spooled_bytes
                        spool.feed(piece)
                        uploads.add(spool.spooled_bytes - before)
                        hold.add(max(len(spool.text) - held_bytes, 0))
                        held_bytes = max(held_bytes, len(spool.text))
                        self._check_size(len(spool.text))
                        self._check_upload(spool.spooled_bytes)
                        if spool.to_write:
                            await asyncio.to_thread(spool.flush)
                        deadline.reschedule(began + self._seconds_for(read_bytes))
                    if not message.get("more_body", False):
                        if spool is None:
                            return b"".join(pieces)
                        scope[SPOOLED] = spool.files
                        return bytes(spool.text)
        except TimeoutError as error:
            self._refused("slow_sender")
            raise HTTPException(
                408,
                f"the body did not arrive within {self._seconds_for(read_bytes):g} s; "
                f"{read_bytes} bytes of it did",
                # Nobody waits for the rest.
                {"Connection": "close"},
            ) from error

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._max_bytes:
            self._refused("too_large")
            raise HTTPException(
                413,
                f"the body is larger than the {self._max_bytes} bytes that are allowed "
                "(rest.max_body_bytes), media apart",
            )

    def _check_upload(self, size_bytes: int) -> None:
        if size_bytes > self._max_upload_bytes:
            self._refused("too_large")
            raise HTTPException(
                413,
                f"the media in the body is larger than the {self._max_upload_bytes} bytes that are allowed "
                "(rest.max_upload_bytes)",
            )


def holder_of(scope: Scope) -> str:
    """For whom a request's bytes are held: whose key it came with, or where it comes from."""
    peer: Peer | None = scope.get(PEER)
    if peer is not None:
        return peer.name
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


def _brings_body(scope: Scope) -> bool:
    return _content_length(scope) > 0 or any(name == b"transfer-encoding" for name, _ in scope["headers"])


def _content_coding(scope: Scope) -> str:
    """What a body was put through on its way here; empty: nothing."""
    sent = [
        value.decode("latin-1").strip() for name, value in scope["headers"] if name == b"content-encoding"
    ]
    return ", ".join(each for each in sent if each.lower() not in ("", "identity"))


def _is_form(scope: Scope) -> bool:
    types = [value for name, value in scope["headers"] if name == b"content-type"]
    return bool(types) and types[0].lower().startswith(b"multipart/form-data") and scope["method"] == "POST"


def _content_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


def _may_be_json(scope: Scope) -> bool:
    # FastAPI parses a body as JSON also where no type is named.
    types = [value for name, value in scope["headers"] if name == b"content-type"]
    return not types or b"json" in types[0].lower()
