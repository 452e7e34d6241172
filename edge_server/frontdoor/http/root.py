"""What is found at ``/``: the page, where there is one, or a line of text that says where to look."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from starlette.datastructures import URLPath
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import Receive, Scope, Send

from edge_server.frontdoor.ports import Page


def install(app: FastAPI, page: Page | None, model_name: Callable[[], str]) -> None:
    """Put something at ``/``.

    Args:
        app: of the REST door; its other routes stay as they are.
        page: None: there is none.
        model_name: what is served at present.
    """
    if page is not None:
        app.router.routes.append(_PageRoute(page))
        return

    @app.get("/", response_class=PlainTextResponse, include_in_schema=False)
    async def root() -> str:
        return (
            f"TokenLink edge server, serving {model_name()}.\n\n"
            "Ask it:         POST /v1/responses, POST /v1/chat/completions, POST /v1/infer\n"
            "Described in:   /openapi.json, and for browsers /docs\n"
            "Watch it:       /metrics, /readyz, /livez\n"
            "A page to look at comes with, in a clone of the repository: pip install '.[ui]'\n"
        )


class _PageRoute(BaseRoute):
    """Hands what belongs to the page over as it came: a mount would take part of the path away."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        ours = scope["type"] in ("http", "websocket") and self._page.serves(scope["path"])
        return (Match.FULL if ours else Match.NONE), {}

    def url_path_for(self, name: str, /, **path_params: object) -> URLPath:
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._page(scope, receive, send)
