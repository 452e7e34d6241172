"""Pictures of the server's page, taken of a running one in headless Chromium.

    make screenshots

Finds the server in its environment (deploy/with_server.py sets it) and ends it for the last pictures. Writes
docs/images/page/STATE-WIDTH-SHADE.png, for a desk and a phone, in light and dark, and the README's picture,
docs/images/playground.png:

    live      the server at work
    first     the playground as a visitor finds it
    answered  after a question of the visitor's own
    failed    after a question that could not be answered
    gone      once the server is no more
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
STATES = IMAGES / "page"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUESTION = "What kind of instrument is on the right of the stage?"
#: Of a desk's screen and a phone's [pixels].
SIZES = {1400: 1050, 390: 844}
SHADES = ("light", "dark")
_ANSWERED = ".tl-probability"


def main() -> None:
    """Entry point."""
    url = os.environ.get("TOKENLINK_REST_URL") or sys.exit("no server in the environment; `make screenshots`")
    browser_path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser_path is None:
        sys.exit("no Chromium: apt-get install chromium")
    STATES.mkdir(parents=True, exist_ok=True)
    looks = list(product(SIZES, SHADES))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        pages = [(f"{width}-{shade}", _open(browser, url, width, shade)) for width, shade in looks]
        for name, page in pages:
            _states(page, name)
        os.kill(int(os.environ["TOKENLINK_SERVER_PID"]), signal.SIGTERM)
        for name, page in pages:
            page.locator('#popup[aria-hidden="false"]').wait_for(state="attached")
            _shoot(page, f"gone-{name}")
        browser.close()
    print(f"written: {STATES}, {IMAGES / 'playground.png'}")


def _open(browser: Browser, url: str, width: int, shade: str) -> Page:
    dark = shade == "dark"
    context = browser.new_context(
        viewport={"width": width, "height": SIZES[width]}, color_scheme="dark" if dark else "light"
    )
    page = context.new_page()
    page.goto(url)
    return page


def _states(page: Page, name: str) -> None:
    page.get_by_role("tab", name="Playground").click()
    page.locator(_ANSWERED).wait_for()
    page.wait_for_function("document.querySelector('video').readyState >= 2")
    _shoot(page, f"first-{name}")
    with _asking(page):
        page.get_by_role("textbox", name="Question").fill(QUESTION)
    _shoot(page, f"answered-{name}")
    if name == "1400-light":
        page.screenshot(path=IMAGES / "playground.png")
    page.get_by_role("textbox", name="Question").fill(" ")
    page.get_by_role("button", name="Ask", exact=True).click()
    page.get_by_role("alert").filter(visible=True).wait_for()
    _shoot(page, f"failed-{name}")
    page.get_by_role("tab", name="Live").click()
    page.locator(".tl-answers").wait_for()
    _shoot(page, f"live-{name}")


@contextmanager
def _asking(page: Page) -> Iterator[None]:
    """Ask what is written in the block, and wait for its answer."""
    yield
    page.get_by_role("button", name="Ask", exact=True).click()
    page.locator(".tl-ask .q-btn__content.invisible, .tl-stale").first.wait_for(state="detached")
    page.locator(_ANSWERED).wait_for()


def _shoot(page: Page, name: str) -> None:
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")
    page.evaluate("Promise.all(document.getAnimations().map(each => each.finished.catch(() => null)))")
    page.evaluate("window.scrollTo(0, 0)")
    # A palette shows all that is looked at here, in a third of the bytes.
    taken = Image.open(io.BytesIO(page.screenshot(full_page=not name.startswith("gone"))))
    taken.quantize(256, dither=Image.Dither.NONE).save(STATES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
