"""By which names the HTTP door may be called, and from which pages.

A page of anybody's can have its own name point to this machine (DNS rebinding) and then read what only who is
on this machine should: its requests name a host that is not ours. A page can also send forms and open
WebSockets to wherever it likes: these name where the page came from.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from edge_server.frontdoor.http.errors import http_response

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_POLICY_VIOLATION = 1008
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
"""What another page asks so, a browser does not show it."""


class HostCheck:
    """ASGI middleware.

    Args:
        app: what to protect.
        hosts: names that are ours, in lower case; None: any.
        origins: pages elsewhere that may ask (``https://app.example``).
        is_open: whether a path tells nothing worth hiding.
        refused: told, in one word, of what was not let in.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Collection[str] | None,
        origins: Collection[str],
        is_open: Callable[[str], bool],
        refused: Callable[[str], None],
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._origins = frozenset(origins)
        self._is_open = is_open
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass that calls us by our name, from a page of ours or from none."""
        if scope["type"] not in ("http", "websocket") or self._is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        problem = self._problem(scope)
        if not problem:
            await self._app(scope, receive, send)
            return
        self._refused("foreign_host")
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": problem[:100]})
            return
        await http_response(scope["method"], scope["path"], HTTPException(403, problem))(scope, receive, send)

    def _problem(self, scope: Scope) -> str:
        headers = HTTPConnection(scope).headers
        host = headers.get("host", "")
        if self._hosts is not None and host and _name_of(f"//{host}") not in self._hosts:
            return f"Host: {host[:80]!r} is no name of this server; rest.allowed_hosts names them"
        origin = headers.get("origin")
        if origin is None or (scope["type"] == "http" and scope["method"] in _READING):
            return ""
        if origin in self._origins or "*" in self._origins or (host and _place_of(origin) == host.lower()):
            return ""
        return f"Origin: {origin[:80]!r} is another site; rest.cors_origins names those that may ask"


def _name_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _place_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
