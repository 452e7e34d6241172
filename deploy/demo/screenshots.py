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

On each, texts that are cut off and figures of another question are looked for; what is found goes with the
pictures into docs/results/page.json, and ends the program with 1.
"""

from __future__ import annotations

import io
import json
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

from edge_server.model.provenance import current_commit

RESULT = Path(__file__).resolve().parents[2] / "docs" / "results" / "page.json"
PROMISED = (
    "The page at 390 and 1400 px, light and dark: first look, after an answer, after a failed one, "
    "server gone"
)
IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
STATES = IMAGES / "page"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUESTION = "What kind of instrument is on the right of the stage?"
#: Of a desk's screen and a phone's [pixels].
SIZES = {1400: 1050, 390: 844}
SHADES = ("light", "dark")
_ANSWERED = ".tl-probability"
_FIGURES = f"{_ANSWERED}, .tl-cost, .tl-headline"
"""What a visitor is told of a question that was answered."""
_CUT = """() => {
  const width = document.documentElement.clientWidth, found = [];
  if (document.documentElement.scrollWidth > width) found.push("the page is wider than the screen");
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some(child => child.nodeType === Node.TEXT_NODE && child.data.trim());
    const box = node.getBoundingClientRect();
    // Of one pixel: told to screen readers alone. Icons are ligatures of a font, wider than they look.
    if (!own || !node.checkVisibility({visibilityProperty: true}) || box.width <= 1) continue;
    if (node.closest(".q-icon, .tl-scroll, [aria-hidden=true]")) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const text = range.getBoundingClientRect(), hides = getComputedStyle(node).overflowX !== "visible";
    if (text.right > width + 1 || text.left < -1 || (hides && node.scrollWidth > node.clientWidth + 1))
      found.push(`cut off: ${node.textContent.trim().slice(0, 60)}`);
  }
  return found;
}"""


def main() -> None:
    """Entry point."""
    url = os.environ.get("TOKENLINK_REST_URL") or sys.exit("no server in the environment; `make screenshots`")
    browser_path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser_path is None:
        sys.exit("no Chromium: apt-get install chromium")
    STATES.mkdir(parents=True, exist_ok=True)
    looks = list(product(SIZES, SHADES))
    faults: dict[str, list[str]] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        pages = [(f"{width}-{shade}", _open(browser, url, width, shade)) for width, shade in looks]
        for name, page in pages:
            faults |= _states(page, name)
        os.kill(int(os.environ["TOKENLINK_SERVER_PID"]), signal.SIGTERM)
        for name, page in pages:
            page.locator('#popup[aria-hidden="false"]').wait_for(state="attached")
            faults |= _shoot(page, f"gone-{name}")
        browser.close()
    _write(faults)
    print(f"written: {STATES}, {IMAGES / 'playground.png'}, {RESULT}")
    wrong = {name: found for name, found in faults.items() if found}
    sys.exit("\n".join(f"{name}: {fault}" for name, found in wrong.items() for fault in found) or 0)


def _write(faults: dict[str, list[str]]) -> None:
    """What was looked for and found on each picture, with the promise that it settles."""
    wrong = sum(map(len, faults.values()))
    report = {
        "command": "make screenshots",
        "commit": current_commit(),
        "measures": ["edge_server/ui"],
        "pictures": faults,
        "promises": [
            {
                "what": PROMISED,
                "measured": f"{len(faults)} pictures: {wrong} texts cut off or figures of another question",
                "met": not wrong,
            }
        ],
    }
    RESULT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _open(browser: Browser, url: str, width: int, shade: str) -> Page:
    dark = shade == "dark"
    context = browser.new_context(
        viewport={"width": width, "height": SIZES[width]}, color_scheme="dark" if dark else "light"
    )
    page = context.new_page()
    page.goto(url)
    return page


def _states(page: Page, name: str) -> dict[str, list[str]]:
    page.get_by_role("tab", name="Playground").click()
    page.locator(_ANSWERED).wait_for()
    page.wait_for_function("document.querySelector('video').readyState >= 2")
    found = _shoot(page, f"first-{name}")
    with _asking(page):
        page.get_by_role("textbox", name="Question").fill(QUESTION)
    found |= _shoot(page, f"answered-{name}")
    if name == "1400-light":
        page.screenshot(path=IMAGES / "playground.png")
    page.get_by_role("textbox", name="Question").fill(" ")
    page.get_by_role("button", name="Ask", exact=True).click()
    page.get_by_role("alert").filter(visible=True).wait_for()
    found |= _shoot(page, f"failed-{name}")
    stale = page.locator(_FIGURES).filter(visible=True).all_inner_texts()
    found[f"failed-{name}"] += [f"of another question: {text}" for text in stale]
    page.get_by_role("tab", name="Live").click()
    page.locator(".tl-answers").wait_for()
    return found | _shoot(page, f"live-{name}")


@contextmanager
def _asking(page: Page) -> Iterator[None]:
    """Ask what is written in the block, and wait for its answer."""
    yield
    page.get_by_role("button", name="Ask", exact=True).click()
    page.locator(".tl-ask .q-btn__content.invisible, .tl-stale").first.wait_for(state="detached")
    page.locator(_ANSWERED).wait_for()


def _shoot(page: Page, name: str) -> dict[str, list[str]]:
    """Take a picture: by its name, the texts that are cut off on it."""
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")
    page.evaluate("Promise.all(document.getAnimations().map(each => each.finished.catch(() => null)))")
    page.evaluate("window.scrollTo(0, 0)")
    # A palette shows all that is looked at here, in a third of the bytes.
    taken = Image.open(io.BytesIO(page.screenshot(full_page=not name.startswith("gone"))))
    taken.quantize(256, dither=Image.Dither.NONE).save(STATES / f"{name}.png", optimize=True)
    return {name: page.evaluate(_CUT)}


if __name__ == "__main__":
    main()
