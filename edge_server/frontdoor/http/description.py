"""The API's description for browsers, ``/docs`` and ``/redoc``, which asks nobody elsewhere for anything.

Its scripts come with the package fastapi-offline. They would still fetch a picture from their makers: a
policy in the pages' headers forbids them every other host.
"""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATHS = frozenset(("/docs", "/redoc"))
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; worker-src 'self' blob:"
)
"""Content-Security-Policy: what these pages need of this server, and nothing of others."""


class OwnPagesOnly:
    """ASGI middleware that puts :data:`POLICY` on the description's pages.

    Args:
        app: that serves them.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass; its answer gets the policy where it is one of these pages."""
        if scope["type"] != "http" or scope["path"] not in PATHS:
            await self._app(scope, receive, send)
            return

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Content-Security-Policy"] = POLICY
            await send(message)

        await self._app(scope, receive, with_policy)
