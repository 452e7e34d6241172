"""Who looks at the page: bytes are the same for everybody; what a visitor sees is made when a browser comes.

    GET /      ──▶ bytes that were made once; the browser draws a random name for its visit
    WebSocket  ──▶ the visit's elements, made one visit at a time, and sent over the socket

A page of its own for each GET would cost tens of milliseconds of the event loop, whoever asked for it, and
would be kept for a minute. A program that only fetches ``/`` costs no more than the bytes.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import re
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from nicegui import Client, core, ui
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Scope

from edge_server.ui.page_bytes import PageBytes
from edge_server.ui.visits import Visits

logger = logging.getLogger(__name__)

_PREFIXES_KEPT = 8
"""Paths of reverse proxies, by which the page's bytes differ."""
_TRIES, _TRY_EACH_S = 25, 0.2
"""How long a browser waits for its turn, before it is sent away to load the page again [times, s]."""
_WAIT_AT_MOST, _WAIT_AT_MOST_OF_ONE = 64, 8
_VISIT = re.compile(r"[0-9a-f]{32}")
# In every browser on any link: crypto.randomUUID is there over HTTPS alone.
_NAME_VISIT = (
    "<script>const tlVisit = () => [...crypto.getRandomValues(new Uint8Array(16))]"
    '.map((byte) => byte.toString(16).padStart(2, "0")).join("");</script>'
)


class Arrivals:
    """Gives browsers the page's bytes, and each its own elements when it connects.

    Args:
        build: makes what a visitor sees, within the client's context.
        head: HTML of the page's head.
        body: HTML that is shown until the elements are there.
        visits: how often elements are made.
        refused: told of everybody who has to come again.
    """

    def __init__(
        self,
        build: Callable[[Client], None],
        *,
        head: str,
        body: str,
        visits: Visits,
        refused: Callable[[], None],
    ) -> None:
        self._build, self._head, self._body = build, head, body
        self._visits, self._refused = visits, refused
        self._page = ui.page("/")
        self._bytes: OrderedDict[str, PageBytes] = OrderedDict()
        self._making = asyncio.Lock()
        self._waiting: Counter[str] = Counter()

    def page_bytes(self, scope: Scope) -> PageBytes | None:
        """The page as it is sent to whoever asks; None: too many kinds of it were asked for at once.

        Args:
            scope: of the request. Bytes differ only by the path that a proxy in front says it serves us at.
        """
        prefix = Headers(scope=scope).get("x-forwarded-prefix", "") + scope.get("root_path", "")
        kept = self._bytes.get(prefix)
        if kept is None:
            if not self._visits.admit(address_of(scope)):
                self._refused()
                return None
            kept = self._bytes[prefix] = PageBytes(self._html(scope))
            if len(self._bytes) > _PREFIXES_KEPT:
                self._bytes.popitem(last=False)
        self._bytes.move_to_end(prefix)
        return kept

    def _html(self, scope: Scope) -> str:
        request = _request("/", scope)
        client = Client(self._page, request=request)
        try:
            client._head_html, client._body_html = _NAME_VISIT + self._head, self._body
            html = bytes(client.build_response(request).body).decode()
        finally:
            client.delete()
        # The library writes a name into each page; here each browser draws one for itself.
        if html.count(f"'{client.id}'") != 1 or html.count(client.id) != 1:
            raise RuntimeError("the page's library names its visits in another way than this was written for")
        return html.replace(f"'{client.id}'", "tlVisit()")

    def greet(self) -> None:
        """From now on make what a browser sees when it connects; another page's arrivals end."""
        handlers: dict[str, Callable[..., Any]] = core.sio.handlers["/"]
        connect = inspect.unwrap(handlers["connect"])

        @functools.wraps(connect)
        async def connected(sid: str, environ: dict[str, Any], *rest: Any) -> Any:
            await self._arrive(environ.get("asgi.scope", {}), environ.get("QUERY_STRING", ""))
            return await connect(sid, environ, *rest)

        handlers["connect"] = connected

    async def _arrive(self, scope: Scope, query: str) -> None:
        """Make a visit's elements, if it is a new one; without them, the handshake that follows fails."""
        sent = parse_qs(query)
        visit = sent.get("client_id", [""])[0]
        # A browser that has seen messages was here before: what it shows is of a visit that has ended.
        new = sent.get("next_message_id") == ["0"] and visit not in Client.instances
        if not new or not _VISIT.fullmatch(visit):
            return
        if not await self._has_its_turn(address_of(scope)):
            self._refused()
            return
        # One at a time, and others' work between two: a crowd delays itself.
        async with self._making:
            if visit not in Client.instances:
                self._make(visit, scope)
            await asyncio.sleep(0)

    async def _has_its_turn(self, address: str) -> bool:
        if self._waiting[address] >= _WAIT_AT_MOST_OF_ONE or self._waiting.total() >= _WAIT_AT_MOST:
            return False
        self._waiting[address] += 1
        try:
            for _ in range(_TRIES):
                if self._visits.admit(address):
                    return True
                await asyncio.sleep(_TRY_EACH_S)
            return False
        finally:
            self._waiting[address] -= 1
            self._waiting = +self._waiting  # addresses at which nobody waits are forgotten

    def _make(self, visit: str, scope: Scope) -> None:
        client = Client(self._page, request=_request("/", scope))
        # Before anything is made that spells it, such as the address of an upload.
        Client.instances[visit] = Client.instances.pop(client.id)
        client.id = visit
        try:
            with client:
                self._build(client)
        except Exception:
            logger.exception("the page cannot be made")
            with client:
                client.content.clear()
                ui.label("This page cannot be shown; the server's log says why.")


def address_of(scope: Scope) -> str:
    """Where a request comes from."""
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


def _request(path: str, scope: Scope) -> Request:
    """A GET by whoever sent a request or opened a socket, with only what the page's bytes depend on."""
    prefix = Headers(scope=scope).get("x-forwarded-prefix") if "headers" in scope else None
    return Request(
        {
            "type": "http",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "root_path": scope.get("root_path", ""),
            "query_string": b"",
            "headers": [] if prefix is None else [(b"x-forwarded-prefix", prefix.encode("latin-1"))],
            "client": scope.get("client"),
            "server": scope.get("server"),
            "scheme": "http",
        }
    )
