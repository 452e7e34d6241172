"""A page as a visitor sees it: in headless Chromium, held to a clean console and to its own server."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright

from tests.waiting import PATIENCE_S

WIDE, PHONE = (1280, 900), (390, 844)
#: With a camera and a microphone that are made, and that nobody has to allow.
_ARGUMENTS = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
#: Chromium gives up what it was fetching when any network of the machine comes or goes, as containers' do.
_NETWORK_CHANGED = "ERR_NETWORK_CHANGED"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass
class Watched:
    """A page, and what it did that it should not have."""

    page: Page
    wrong: list[str] = field(default_factory=list)


@contextmanager
def looking(
    browser: Browser,
    url: str,
    *,
    viewport: tuple[int, int] = WIDE,
    dark: bool = False,
    prepare: Callable[[BrowserContext], None] = lambda context: None,
    forgiven: tuple[str, ...] = (),
    any_certificate: bool = False,
) -> Iterator[Watched]:
    """The page at a URL, in a browser of its own; ends with a check that nothing went wrong.

    Args:
        browser: to look with.
        url: of the server.
        viewport: width and height [pixels].
        dark: what the visitor's system prefers.
        prepare: called before the page is opened.
        forgiven: parts of console errors that belong to the test.
        any_certificate: the server's own is signed by nobody whom a browser knows.
    """
    context = browser.new_context(
        viewport={"width": viewport[0], "height": viewport[1]},
        color_scheme="dark" if dark else "light",
        ignore_https_errors=any_certificate,
    )
    context.set_default_timeout(1000 * PATIENCE_S)
    expect.set_options(timeout=1000 * PATIENCE_S)
    page = context.new_page()
    watched = Watched(page)

    def only_to_the_server(route: Route) -> None:
        if urlsplit(route.request.url).netloc == urlsplit(url).netloc:
            route.continue_()
        else:
            watched.wrong.append(f"a request to {route.request.url}")
            route.abort()

    def said(kind: str, text: str) -> None:
        if kind in ("error", "warning") and not any(part in text for part in forgiven):
            watched.wrong.append(f"{kind}: {text}")

    context.route("**/*", only_to_the_server)
    page.on("console", lambda message: said(message.type, message.text))
    page.on("pageerror", lambda error: said("error", str(error)))
    page.on(
        "websocket",
        lambda socket: (
            None
            if urlsplit(socket.url).netloc == urlsplit(url).netloc
            else watched.wrong.append(f"a WebSocket to {socket.url}")
        ),
    )
    prepare(context)
    try:
        page.goto(url)
        while any(_NETWORK_CHANGED in each for each in watched.wrong):
            watched.wrong.clear()
            page.goto(url)
        yield watched
        assert not watched.wrong, watched.wrong
    finally:
        context.close()


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser that was started; a test that has none is skipped."""
    executable = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    if executable is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable, args=_ARGUMENTS)
        yield started
        started.close()
