"""Requests as clients write them, made into those that the routes know.

Base URLs end with a slash, and then paths have two; monitors ask with HEAD whether something is there. A
redirect, what Starlette answers, leads to ``http://`` behind a proxy that ends TLS.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

_SLASHES = re.compile("/{2,}")


class AsWritten:
    """ASGI middleware: slashes that say nothing are left out, and HEAD is GET without its body.

    Whatever serves sends no body after HEAD; it keeps the scope that it made (RFC 9110, 9.3.2).

    Args:
        app: what knows one way of writing each path.
        leaves: paths that are somebody else's: their slashes stay.
    """

    def __init__(self, app: ASGIApp, *, leaves: Callable[[str], bool]) -> None:
        self._app = app
        self._leaves = leaves

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on as the routes know it."""
        if scope["type"] != "http" or self._leaves(scope["path"]):
            await self._app(scope, receive, send)
            return
        path = _SLASHES.sub("/", scope["path"])
        known = {**scope, "path": path.rstrip("/") or "/"}
        if scope["method"] == "HEAD":
            known["method"] = "GET"
        await self._app(known, receive, send)
