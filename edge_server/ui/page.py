"""The page as one ASGI application, to be put in front of a server's other routes.

NiceGUI is one per process: so is this page. It serves ``/``, its own files and WebSocket, and the clips of
the playground; every other path stays with the REST door, whose errors keep their shape.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from importlib.resources import files

from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse, PlainTextResponse
from nicegui import Client, ui
from nicegui import app as nicegui_app
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from edge_server.errors import EdgeServerError
from edge_server.ui.arrivals import Arrivals
from edge_server.ui.context import PageContext
from edge_server.ui.live import REFRESH_S, LivePanel
from edge_server.ui.playground import CLIP_URL, Playground
from edge_server.ui.scenes import ScenesPanel
from edge_server.ui.socket import keep_the_log_ours
from edge_server.ui.visits import Visits

PREFIXES = ("/_nicegui", "/_ui/")
"""Below these lie the page's own files, its WebSocket and its clips."""
RECONNECT_S = 10.0
"""A browser whose link was cut for no longer than this finds its page as it left it [s]."""
_TITLE = "TokenLink edge server"
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
    '<rect width="32" height="32" rx="7" fill="#0b62c4"/><path d="M7 20c3-8 6-8 9 0s6 8 9 0" fill="none" '
    'stroke="#fff" stroke-width="3" stroke-linecap="round"/></svg>'
)
_UNTIL_THERE = (  # seen until the elements come over the socket
    '<p id="tl-connecting">Connecting to the server…</p>'
    "<noscript><p>This page needs JavaScript; its numbers are at /metrics.</p></noscript>"
)


class FrontPage:
    """What a browser sees of a server. An ASGI application.

    Args:
        context: the server's parts.
    """

    def __init__(self, context: PageContext) -> None:
        self._context = context
        style = files("edge_server.ui").joinpath("style.css").read_text(encoding="utf-8")
        self._arrivals = Arrivals(
            self._page,
            head=f"<style>{style}</style>",
            body=_UNTIL_THERE,
            visits=Visits(context.clock),
            refused=lambda: context.watched.rejected("pages"),
        )
        self._app: ASGIApp = self._build()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request of a browser."""
        if scope["type"] == "http" and scope["path"] == "/":
            await self._front(scope)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _front(self, scope: Scope) -> Response:
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("only GET and HEAD", 405, {"Allow": "GET, HEAD"})
        page = self._arrivals.page_bytes(scope)
        if page is None:
            return PlainTextResponse("too many pages at once; try again", 429, {"Retry-After": "1"})
        return page.response(Headers(scope=scope))

    @staticmethod
    def serves(path: str) -> bool:
        """Whether a path belongs to the page."""
        return path == "/" or path.startswith(PREFIXES)

    @staticmethod
    def takes_body(method: str, path: str) -> bool:
        """Whether a request may bring a body: a clip that is uploaded does."""
        # Only who was let in has a place to upload to.
        return (
            method == "POST"
            and path.startswith("/_nicegui/client/")
            and any(getattr(route, "path", "") == path for route in nicegui_app.routes)
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """For as long as the page is served."""
        async with self._shell.router.lifespan_context(self._shell):
            try:
                yield
            finally:
                self._context.shelf.close()

    def _build(self) -> FastAPI:
        self._shell = shell = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

        @shell.get(CLIP_URL + "{key}")
        async def clip(key: str) -> FileResponse:
            found = self._context.shelf.find(key)
            if found is None or not found.path.is_file():
                raise HTTPException(404, "there is no such clip, or no longer")
            headers = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"}
            return FileResponse(found.path, media_type=found.media_type, headers=headers)

        # The library's own makes a page, and a visit that is kept for a minute, of each path that is none.
        nicegui_app.add_exception_handler(404, lambda request, error: PlainTextResponse("not found", 404))
        # A browser that keeps polling would keep a server that shuts down from ending.
        nicegui_app.config.socket_io_js_transports = ["websocket"]
        keep_the_log_ours()
        self._arrivals.greet()
        ui.run_with(
            shell,
            title=_TITLE,
            favicon=_ICON,
            dark=None,
            language="en-US",
            binding_refresh_interval=None,
            reconnect_timeout=RECONNECT_S,
            tailwind=False,
            show_welcome_message=False,
        )
        return shell

    def _page(self, client: Client) -> None:
        ui.colors(primary="#0b62c4")
        self._header()
        main = ui.element("main").classes("tl-main")
        ui.skip_link("Skip to content", target=main)
        with main:
            if self._context.gate.needs_key(client.ip):
                self._ask_for_key(client, main)
            else:
                self._content(client, main, "")

    def _header(self) -> None:
        backend = self._context.asker.backend
        dark = ui.dark_mode(None)
        with ui.element("header").classes("tl-header"):
            ui.html(
                f'<h1>{_ICON}<span>TokenLink</span></h1><p class="tl-note">{backend.model.name} · '
                f"{self._context.version}</p>",
                sanitize=True,
            ).classes("tl-brand")
            state = ui.label().classes("tl-pill").props('role="status"')
            ui.link("API", "/docs").classes("tl-link")
            ui.link("Metrics", "/metrics").classes("tl-link")

            def shade() -> None:
                dark.set_value({None: True, True: False, False: None}[dark.value])
                button.props(f'icon={_SHADES[dark.value][0]} aria-label="Colours: {_SHADES[dark.value][1]}"')

            button = ui.button(on_click=shade).props("flat round dense").classes("tl-shade")
            button.props(f'icon={_SHADES[None][0]} aria-label="Colours: {_SHADES[None][1]}"')

        def look() -> None:
            engine = self._context.asker.backend.engine.status
            word = "ready" if engine.ready else "draining" if engine.draining else "not ready"
            if state.text != word:
                state.set_text(word)
                state.classes(replace=f"tl-pill {word.replace(' ', '-')}")

        look()
        ui.timer(REFRESH_S, look)

    def _content(self, client: Client, main: ui.element, key: str) -> None:
        with ui.tabs().classes("tl-tabs").props("no-caps align=left inline-label") as tabs:
            live = ui.tab("live", label="Live", icon="monitor_heart")
            scenes = ui.tab("scenes", label="Scenes", icon="videocam")
            playground = ui.tab("playground", label="Playground", icon="science")
        with ui.tab_panels(tabs, value=live, animated=False).classes("tl-panels"):
            with ui.tab_panel(live):
                LivePanel(self._context)
            with ui.tab_panel(scenes):
                seen = ScenesPanel(self._context, client.ip, key)
            with ui.tab_panel(playground):
                trying = Playground(self._context, client.ip, key)

        async def chosen() -> None:
            seen.shown = tabs.value == "scenes"
            if seen.shown:
                await seen.refresh()
            if tabs.value == "playground":
                await trying.begin()

        tabs.on_value_change(chosen)
        if self._context.gate.needs_key(client.ip):

            def look_again() -> None:
                if not self._context.gate.still_good(key):
                    main.clear()
                    with main:
                        self._ask_for_key(client, main)

            ui.timer(REFRESH_S, look_again)

    def _ask_for_key(self, client: Client, main: ui.element) -> None:
        with ui.element("form").classes("tl-card tl-key-form") as form:
            ui.html("This server asks for an API key", sanitize=True, tag="h2")
            field = ui.input(label="API key", password=True).props('outlined autocomplete="off"')
            refused = ui.label().classes("tl-error").props('role="alert"')
            refused.visible = False
            ui.button("Enter").props("unelevated no-caps type=submit")

        def enter() -> None:
            key = str(field.value or "")
            try:
                self._context.gate.user_of(key, client.ip)
            except EdgeServerError as error:
                refused.set_text(str(error))
                refused.visible = True
                return
            main.clear()
            with main:
                self._content(client, main, key)

        form.on("submit.prevent", enter)


_SHADES = {
    None: ("brightness_auto", "as the system"),
    True: ("dark_mode", "dark"),
    False: ("light_mode", "light"),
}
