"""Pictures of the server's page, taken of a running one in headless Chromium.

    make screenshots

Finds the server in its environment (deploy/with_server.py sets it), asks a question in the playground and
writes docs/images/playground.png.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUESTION = "What kind of instrument is on the right of the stage?"


def main() -> None:
    """Entry point."""
    url = os.environ.get("TOKENLINK_REST_URL") or sys.exit("no server in the environment; `make screenshots`")
    browser_path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser_path is None:
        sys.exit("no Chromium: apt-get install chromium")
    IMAGES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1130})
        page.goto(url)
        page.get_by_role("tab", name="Playground").click()
        page.get_by_role("textbox", name="Question").fill(QUESTION)
        page.get_by_role("button", name="Ask", exact=True).click()
        page.locator(".tl-probability").wait_for()
        page.wait_for_function("document.querySelector('video').readyState >= 2")
        page.mouse.move(0, 0)
        page.screenshot(path=IMAGES / "playground.png")
        browser.close()
    print(f"written: {IMAGES / 'playground.png'}")


if __name__ == "__main__":
    main()
