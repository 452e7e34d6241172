"""What an engine of a cluster shows over HTTP: how it does. Questions come to it by the cluster alone."""

from __future__ import annotations

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

SHOWN = frozenset({"/livez", "/readyz", "/metrics"})


class ProbesOnly:
    """An ASGI application that lets through what asks how its server does, and refuses the rest.

    Args:
        app: the whole.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["path"] in SHOWN:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            told = (
                f"this is an engine of a cluster: ask one of its doors; here are {', '.join(sorted(SHOWN))}"
            )
            await PlainTextResponse(f"{told}\n", 404)(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
