"""The tab of scenes in headless Chromium: what is shared is seen, found, asked about; rules are followed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from device_agent.uplink.uplink import Uplink
from edge_server.access import keys
from edge_server.access.scene_grants import grant_scenes, withdraw_scenes
from edge_server.scenes.rule_file import RuleFile
from edge_server.scenes.rules import Rule
from edge_server.scenes.sqlite import SqliteScenes
from edge_server.server.config import ServerConfig
from tests.authority import Device, make_pki
from tests.contract.test_scenes import ask, share
from tests.e2e.browsing import PHONE, looking
from tests.e2e.conftest import ROOT, load_script
from tests.e2e.test_page import WeightlessServer
from tests.weightless import BUNDLE_HASH

CLIPS = sorted((ROOT / "deploy" / "demo" / "clips").glob("*.mp4"))
QUESTION = "What kind of instrument is on the right of the stage?"
"""Of the first clip, and the answer."""
ANSWER = "saxophone"
COMMANDS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A server to which two devices have shared what is in the demo's clips, and one rule."""
    folder = tmp_path_factory.mktemp("scenes")
    scenes = folder / "scenes.db"
    with_server = load_script(ROOT / "deploy" / "with_server.py")
    settings = {"TOKENLINK_SERVER_SCENES": str(scenes), "TOKENLINK_SERVER_UI": "on"}
    with with_server.edge_server(ROOT / ServerConfig().runtime.model, settings) as found:
        environment = os.environ | found

        def run(*command: str | Path | int) -> None:
            program = COMMANDS / str(command[0])
            done = subprocess.run(
                [program, *map(str, command[1:])],
                env=environment,
                capture_output=True,
                text=True,
                timeout=120,
            )
            assert done.returncode == 0, done.stderr

        rule = ("scenes", "rule", "add", QUESTION, "--becomes", ANSWER, "--name", "saxophone")
        run("edge-server", *rule, "--notify", "http://127.0.0.1:9/", "--device", "porch*", "--scenes", scenes)
        for number, (device, clip) in enumerate(zip(("porch/left", "porch/right"), CLIPS, strict=False)):
            share = (
                "share",
                "--device-id",
                device,
                "--source",
                clip,
                "--every",
                "1s",
                "--token-length",
                "16",
            )
            run("device-agent", *share, "--outbox", folder / f"outbox-{number}.db")
        yield environment


def open_scenes(page: Page) -> None:
    page.get_by_role("tab", name="Scenes").click()
    expect(page.locator(".tl-scene")).to_have_count(2)


def test_what_devices_shared_is_seen_found_and_asked_about(browser: Browser, shared: dict[str, str]) -> None:
    with looking(browser, shared["TOKENLINK_REST_URL"]) as watched:
        page = watched.page
        open_scenes(page)
        tile = page.locator(".tl-scene").filter(has_text="porch/left")
        expect(tile).to_contain_text("4 s long")
        expect(tile).to_contain_text("video 10.0 dB")
        expect(tile.locator("img.tl-heatmap")).to_have_count(2)
        assert tile.locator("img").evaluate_all("all => all.map(image => image.naturalWidth)") == [32, 32]
        expect(page.get_by_role("table", name="Scenes over time")).to_contain_text("porch/right")
        # What the rule found, and when it turned.
        expect(tile).to_contain_text(ANSWER)
        rule = page.locator(".tl-rule")
        expect(rule).to_contain_text(QUESTION)
        expect(rule.get_by_role("list", name="History")).to_contain_text("porch/left")
        # Found, and asked further.
        page.get_by_label("What is to be seen or heard").fill("a saxophone on the right")
        page.get_by_role("button", name="Search").click()
        hits = page.locator(".tl-hit")
        expect(hits.first).to_be_visible()
        hits.filter(has_text="porch/left").first.get_by_role("button", name="Ask about it").click()
        expect(page.get_by_text("About its scene of")).to_be_visible()
        page.get_by_role("textbox", name="Question").fill(QUESTION)
        page.get_by_role("button", name="Ask", exact=True).click()
        expect(page.locator(".tl-answer")).to_have_text(ANSWER)
        expect(page.get_by_text("From porch/left at")).to_be_visible()
        expect(tile.locator(".tl-said")).to_contain_text(QUESTION)


def test_what_cannot_be_asked_is_said(browser: Browser, shared: dict[str, str]) -> None:
    with looking(browser, shared["TOKENLINK_REST_URL"]) as watched:
        page = watched.page
        open_scenes(page)
        page.get_by_role("button", name="Search").click()
        expect(page.get_by_role("alert").filter(visible=True)).to_contain_text("query: is empty")
        page.get_by_role("button", name="Ask", exact=True).click()
        expect(page.get_by_role("alert").filter(visible=True, has_text="question")).to_contain_text(
            "is empty"
        )


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("viewport", [PHONE, (1400, 1050)])
def test_it_fits_a_phone_and_a_desk(
    browser: Browser, shared: dict[str, str], tmp_path: Path, viewport: tuple[int, int], dark: bool
) -> None:
    with looking(browser, shared["TOKENLINK_REST_URL"], viewport=viewport, dark=dark) as watched:
        page = watched.page
        open_scenes(page)
        page.get_by_label("What is to be seen or heard").fill("a saxophone on the right")
        page.get_by_role("button", name="Search").click()
        expect(page.locator(".tl-hit").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport[0]
        page.screenshot(path=tmp_path / "scenes.png", full_page=True)


def test_a_key_sees_on_the_page_what_it_may_see_and_no_more(browser: Browser, tmp_path: Path) -> None:
    pki = make_pki(tmp_path / "certs")
    camera = pki.device("secret-camera")
    server = WeightlessServer(tmp_path, settings=pki.settings() | {"scenes": tmp_path / "scenes.db"})
    server.start()
    try:
        share_from(server, camera, "r1")
        store = SqliteScenes(tmp_path / "scenes.db")
        RuleFile(store).add(
            Rule("secret-rule", "Is it secret?", "*", "a long answer", 0.0, ("http://127.0.0.1:9/",), 0.0)
        )
        store.close()
        share_from(server, camera, "r2")
        secret = keys.add_key(pki.access, "phone", time.time())
        with looking(browser, server.rest, any_certificate=True) as watched:
            page = watched.page
            page.get_by_label("API key").fill(secret)
            page.get_by_label("API key").press("Enter")
            page.get_by_role("tab", name="Scenes").click()
            expect(page.get_by_text("Nothing was shared yet.")).to_be_visible()
            expect(page.get_by_text("No standing question.")).to_be_visible()
            page.get_by_role("textbox", name="Question").fill("ab")
            page.get_by_role("button", name="Ask", exact=True).click()
            expect(page.get_by_role("alert").filter(visible=True)).to_contain_text("device")
            assert "secret-camera" not in page.content()
            assert "secret-rule" not in page.content()
            # Granted: from the next look on.
            grant_scenes(pki.access, "key:phone", "read:secret-*", time.time())
            expect(page.locator(".tl-scene")).to_contain_text("secret-camera")
            expect(page.locator(".tl-rule")).to_contain_text("secret-rule")
            withdraw_scenes(pki.access, "key:phone", "read:secret-*")
            expect(page.get_by_text("Nothing was shared yet.")).to_be_visible()
            expect(page.get_by_text("No standing question.")).to_be_visible()
            expect(page.locator(".tl-main")).not_to_contain_text("secret-camera")
    finally:
        server.kill()


def share_from(server: WeightlessServer, device: Device, request_id: str) -> None:
    async def send() -> None:
        uplink = Uplink(server.grpc, BUNDLE_HASH, device_id=device.name, credentials=device.credentials())
        async with uplink:
            await ask(uplink, share(device.name, request_id))

    # The browser's event loop is this thread's.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, send()).result()
