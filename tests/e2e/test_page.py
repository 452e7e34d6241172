"""The page in headless Chromium: live numbers, the playground, and what happens when the link to it is cut.

Every test fails on an error in the browser's console, and on any request that leaves the server.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, WebSocketRoute, expect

from protos import payload
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from protos.tokenlink.v1.tokenlink_pb2_grpc import TokenLinkStub
from tests.e2e.browsing import PHONE, looking
from tests.waiting import PATIENCE_S, until_true
from tests.weightless import BUNDLE_HASH, CHANNEL_DIM

ROOT = Path(__file__).resolve().parents[2]
NOT_MEDIA = b"this is a shopping list, whatever its name says\n" * 40


class WeightlessServer:
    """A server process that can be killed and come back at the same ports."""

    def __init__(self, folder: Path, key: str = "", settings: Mapping[str, object] | None = None) -> None:
        self._settings = {
            f"TOKENLINK_SERVER_{name.upper()}": str(value) for name, value in (settings or {}).items()
        }
        self._ready = folder / "ready.json"
        self.log = folder / "server.log"
        self._arguments = [key] if key else []
        self._ports = ("0", "0")
        self.process: subprocess.Popen[bytes] | None = None
        self.rest = self.grpc = ""

    def start(self) -> None:
        self._ready.unlink(missing_ok=True)
        environment = os.environ | {
            "TOKENLINK_SERVER_GRPC_PORT": self._ports[0],
            "TOKENLINK_SERVER_REST_PORT": self._ports[1],
            "TOKENLINK_SERVER_READY_FILE": str(self._ready),
            "TOKENLINK_SERVER_UI": "on",
            "TOKENLINK_SERVER_UI_DEMO": str(ROOT / "deploy" / "demo"),
            **self._settings,
        }
        command = [sys.executable, "-m", "tests.contract.serve_weightless", *self._arguments]
        with self.log.open("ab") as sink:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=sink)
        process = self.process
        until_true(lambda: self._ready.exists() or process.poll() is not None)
        assert process.poll() is None, self.log.read_text()
        facts = json.loads(self._ready.read_text())
        self._ports = (str(facts["grpc_port"]), str(facts["rest_port"]))
        self.rest, self.grpc = facts["rest"], facts["grpc"]

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def weightless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WeightlessServer]:
    server = WeightlessServer(tmp_path_factory.mktemp("weightless"))
    server.start()
    yield server
    server.kill()
    log = server.log.read_text()
    assert '"serving"' in log
    assert "client_id" not in log, "who has the id of a browser's page can take it over"


def ask_over_grpc(server: WeightlessServer, device_id: str) -> str:
    """One question of a device that leaves its session open; the answer."""
    with grpc.insecure_channel(server.grpc) as channel:
        stub = TokenLinkStub(channel)
        opened = stub.OpenSession(
            pb.OpenSessionRequest(device_id=device_id, bundle_hash=BUNDLE_HASH, snr_db=7.5)
        )
        block = np.full((8, CHANNEL_DIM), 0.5, np.float32)
        question = pb.Question(
            request_id=f"q{zlib.crc32(device_id.encode())}",
            payloads=[payload.encode(block, "video", "int8", pb.ChannelReport(airtime_s=0.002))],
            question_ids=list(b"what plays?"),
        )
        request = pb.AskRequest(session_id=opened.session_id, bundle_hash=BUNDLE_HASH, question=question)
        return "".join(frame.answer.text for frame in stub.Ask(request))


def ask_in_playground(page: Page) -> None:
    page.get_by_role("tab", name="Playground").click()
    page.get_by_role("button", name="Ask", exact=True).click()


def test_a_device_that_asks_is_seen_while_the_page_is_open(
    browser: Browser, weightless: WeightlessServer
) -> None:
    with looking(browser, weightless.rest) as watched:
        page = watched.page
        expect(page.get_by_role("status")).to_have_text("ready")
        name = "<b>roof</b>-camera"
        assert ask_over_grpc(weightless, name) == "a long answer"
        row = page.get_by_role("table", name="Devices with a session").get_by_role("row", name=name)
        expect(row).to_contain_text("idle")
        expect(row).to_contain_text("7.5")
        expect(row).to_contain_text("16 of 32")
        expect(row).to_contain_text("2×")
        answer = page.get_by_role("table", name="Recent answers").get_by_role("row", name="what plays?").first
        for part in ("a long answer", "video 8", name):
            expect(answer).to_contain_text(part)
        times = page.get_by_role("table", name="Times in the last five minutes")
        expect(times.get_by_role("row", name="Channel")).to_contain_text("ms")
        expect(times.get_by_role("row", name="Inference")).to_contain_text("s")
        expect(page.get_by_role("table", name="questions, decode steps")).to_be_visible()
        with grpc.insecure_channel(weightless.grpc) as channel, pytest.raises(grpc.RpcError):
            TokenLinkStub(channel).OpenSession(pb.OpenSessionRequest(device_id="x", bundle_hash="ee" * 32))
        expect(page.get_by_role("table", name="reason, refused")).to_contain_text("another bundle")


def test_an_answer_is_shown_as_it_comes_about(browser: Browser, weightless: WeightlessServer) -> None:
    with looking(browser, weightless.rest) as watched:
        ask_in_playground(watched.page)
        # On its way: a tenth of a second for each letter.
        watched.page.wait_for_function(
            "/^a( l|$)/.test(document.querySelector('.tl-answer').innerText) && "
            "document.querySelector('.tl-answer').innerText.length < 13",
            polling=20,
        )
        expect(watched.page.locator(".tl-answer")).to_have_text("a long answer")
        expect(watched.page.locator(".tl-probability")).to_be_visible()


def test_fetching_the_page_makes_none(browser: Browser, weightless: WeightlessServer) -> None:
    with httpx.Client(base_url=weightless.rest) as http:
        first = http.get("/")
        assert (first.status_code, first.headers["content-encoding"]) == (200, "gzip")
        assert first.headers["content-type"] == "text/html; charset=utf-8"
        plain = http.get("/", headers={"Accept-Encoding": "identity"})
        assert plain.text == first.text
        assert "content-encoding" not in plain.headers
        assert http.head("/").headers["etag"] == first.headers["etag"]
        # Far more than pages are made for one address, and the same bytes each time.
        assert {http.get("/").content for _ in range(100)} == {first.content}
        known = {"If-None-Match": first.headers["etag"]}
        assert {http.get("/", headers=known).status_code for _ in range(10)} == {304}
        assert http.post("/").status_code == 405
        behind = http.get("/", headers={"X-Forwarded-Prefix": "/edge"})
        assert behind.status_code == 200
        assert "/edge/_nicegui/" in behind.text
        lost = http.get("/_nicegui/nothing")
        assert (lost.status_code, lost.text) == (404, "not found")
    with looking(browser, weightless.rest) as watched:
        expect(watched.page.get_by_role("status")).to_have_text("ready")
        expect(watched.page.locator("#tl-connecting")).to_be_hidden()


@pytest.mark.parametrize("how", ["killed", pytest.param("terminated", marks=pytest.mark.slow)])
def test_the_page_heals_when_its_server_comes_back(browser: Browser, tmp_path: Path, how: str) -> None:
    server = WeightlessServer(tmp_path)
    server.start()
    forgiven = ("WebSocket connection", "ERR_CONNECTION_REFUSED", "Failed to load resource")
    try:
        with looking(browser, server.rest, forgiven=forgiven) as watched:
            page = watched.page
            expect(page.get_by_role("status")).to_have_text("ready")
            if how == "killed":
                server.kill()
            else:
                assert server.terminate() == 0, "an open page does not keep a server from ending"
            expect(page.locator("#popup")).to_have_attribute("aria-hidden", "false")
            said = "getComputedStyle(document.querySelector('.tl-pill'), '::after').content"
            assert page.evaluate(said) == '"no connection"'
            # What was shown is old now, and looks it.
            assert page.locator(".tl-panels").evaluate("e => getComputedStyle(e).opacity") == "0.5"
            expect(page.locator(".tl-link").first).to_be_hidden()
            server.start()
            # Nobody touches the browser: it finds the server, and shows what happens there from now on.
            expect(page.locator("#popup")).to_have_attribute("aria-hidden", "true", timeout=1000 * PATIENCE_S)
            ask_over_grpc(server, "after-the-restart")
            expect(page.locator(".tl-devices")).to_contain_text("after-the-restart")
            ask_in_playground(page)
            expect(page.locator(".tl-answer")).to_have_text("a long answer")
    finally:
        server.kill()


def test_the_page_heals_when_only_its_connection_is_cut(
    browser: Browser, weightless: WeightlessServer
) -> None:
    sockets: list[WebSocketRoute] = []

    def through(socket: WebSocketRoute) -> None:
        socket.connect_to_server()
        sockets.append(socket)

    def prepare(context: BrowserContext) -> None:
        context.route_web_socket("**/*", through)

    with looking(browser, weightless.rest, prepare=prepare) as watched:
        page = watched.page
        page.get_by_role("tab", name="Playground").click()
        question = page.get_by_role("textbox", name="Question")
        question.fill("typed before the cut")
        expect(page.get_by_role("status")).to_have_text("ready")
        page.wait_for_function("window.did_handshake")
        sockets[-1].close(code=1001, reason="cut")
        expect(page.locator("#popup")).to_have_attribute("aria-hidden", "false")
        expect(page.locator("#popup")).to_have_attribute("aria-hidden", "true")
        assert len(sockets) > 1
        expect(question).to_have_value("typed before the cut")
        page.get_by_role("button", name="Ask", exact=True).click()
        expect(page.locator(".tl-answer")).to_have_text("a long answer")


def test_where_a_key_is_needed_nothing_is_shown_without_it(browser: Browser, tmp_path: Path) -> None:
    server = WeightlessServer(tmp_path, key="the-key")
    server.start()
    try:
        ask_over_grpc(server, "secret-device")
        with looking(browser, server.rest) as watched:
            page = watched.page
            key = page.get_by_label("API key")
            expect(key).to_be_visible()
            assert "secret-device" not in page.content()
            assert page.get_by_role("tab").count() == 0
            key.fill("a guess")
            key.press("Enter")
            expect(page.get_by_role("alert")).to_contain_text("not known here")
            assert "secret-device" not in page.content()
            key.fill("the-key")
            key.press("Enter")
            expect(page.locator(".tl-devices")).to_contain_text("secret-device")
            ask_in_playground(page)
            expect(page.locator(".tl-answer")).to_have_text("a long answer")
            page.get_by_role("tab", name="Live").click()
            expect(page.locator(".tl-answers")).to_contain_text("key-1")
    finally:
        server.kill()


def test_the_playground_answers_and_shows_what_the_channel_did(
    browser: Browser, served: dict[str, str], tmp_path: Path
) -> None:
    with looking(browser, served["TOKENLINK_REST_URL"]) as watched:
        page = watched.page
        ask_in_playground(page)
        expect(page.locator(".tl-probability")).to_contain_text("%")
        assert page.locator(".tl-answer").inner_text() not in ("", "…", "No answer")
        # What a visitor finds asked is answered rightly; what share of others is, the README says.
        expect(page.locator(".tl-verdict.right")).to_be_visible()
        # Video and audio: before, after, and what the channel added.
        expect(page.locator("img.tl-heatmap")).to_have_count(6)
        widths = page.locator("img.tl-heatmap").evaluate_all("all => all.map(image => image.naturalWidth)")
        assert widths == [32] * 6
        pictures = page.locator("img.tl-heatmap").evaluate_all("all => all.map(image => image.src)")
        assert len(set(pictures)) == 6
        expect(page.locator("svg.tl-symbols")).to_have_count(2)
        page.wait_for_function("document.querySelector('video').readyState >= 1")
        cost = page.get_by_role("table", name="Cost")
        expect(cost.get_by_role("row", name="Bytes")).to_contain_text("kB")
        expect(cost.get_by_role("row", name="Airtime")).to_contain_text("≥")
        page.screenshot(path=tmp_path / "playground.png", full_page=True)


def test_what_is_dragged_is_asked_again(browser: Browser, served: dict[str, str]) -> None:
    with looking(browser, served["TOKENLINK_REST_URL"]) as watched:
        page = watched.page
        ask_in_playground(page)
        expect(page.locator(".tl-word").first).to_contain_text("16 tokens of 32 reals · 256 channel uses")
        expect(page.locator(".tl-word").first).to_contain_text("effective SNR 10.0")
        expect(page.get_by_role("button", name="Ask", exact=True)).not_to_have_class("q-btn--loading")
        snr = page.get_by_role("slider", name="SNR")
        snr.focus()
        page.keyboard.press("ArrowRight")
        expect(page.locator(".tl-word").first).to_contain_text("effective SNR 11.0")
        length = page.get_by_role("slider", name="Token length")
        length.focus()
        page.keyboard.press("ArrowLeft")
        expect(page.locator(".tl-word").first).to_contain_text("8 tokens of 32 reals · 128 channel uses")
        page.get_by_role("button", name="Perfect").click()
        expect(page.locator(".tl-word").first).to_contain_text("weaker than the tokens")
        page.get_by_role("button", name="float32").click()
        expect(page.locator(".tl-word").first).to_contain_text("arrived as sent")
        expect(page.locator(".tl-cost")).to_contain_text("2.05")


def test_a_tapped_delay_line_has_speed_and_delays_and_errors_over_subcarriers(
    browser: Browser, served: dict[str, str]
) -> None:
    with looking(browser, served["TOKENLINK_REST_URL"]) as watched:
        page = watched.page
        ask_in_playground(page)
        speed = page.get_by_role("slider", name="Speed")
        expect(speed).to_be_hidden()
        expect(page.locator("svg.tl-subcarriers")).to_have_count(0)
        page.get_by_role("button", name="TDL-C").click()
        expect(speed).to_be_visible()
        expect(page.get_by_role("slider", name="Delay spread")).to_be_visible()
        # The cyclic prefix costs channel uses, and so do pilots.
        expect(page.locator(".tl-word").first).to_contain_text("274 channel uses")
        expect(page.locator("svg.tl-subcarriers")).to_have_count(2)
        # Symbols of each part of the band have a colour, in picture and key.
        expect(page.locator("svg.tl-symbols .band4")).to_have_count(2)
        expect(page.locator(".tl-key.band4").first).to_have_text("52 to 65")
        page.get_by_role("button", name="Estimated from pilots").click()
        expect(page.locator(".tl-word").first).to_contain_text("330 channel uses")
        page.get_by_role("button", name="AWGN").click()
        page.get_by_role("button", name="Known").click()
        expect(page.locator("svg.tl-subcarriers")).to_have_count(0)
        expect(page.locator(".tl-key.received")).to_have_count(2)
        power = page.get_by_role("slider", name="Transmit power")
        power.focus()
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        expect(page.locator(".tl-word").first).to_contain_text("effective SNR 13.0")


@pytest.mark.parametrize(
    ("name", "says"),
    [("notes.txt", "no video, image or sound"), ("holiday.mp4", "clip"), ("empty.mp4", "empty")],
)
def test_a_file_that_is_no_clip_gets_an_error_that_says_so(
    browser: Browser, served: dict[str, str], tmp_path: Path, name: str, says: str
) -> None:
    file = tmp_path / name
    file.write_bytes(b"" if name.startswith("empty") else NOT_MEDIA)
    # The browser cannot play it either, and says so in its own words.
    with looking(browser, served["TOKENLINK_REST_URL"]) as watched:
        page = watched.page
        page.get_by_role("tab", name="Playground").click()
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Upload a clip").click()
        chooser.value.set_files(file)
        # Decoding finds out at once, and the clip that was shown stays with its answer.
        alert = page.get_by_role("alert").filter(has_text=says)
        expect(alert).to_be_visible()
        expect(page.locator(".tl-player")).to_contain_text("Clip 1")
        expect(page.locator(".tl-probability")).to_be_visible()
        assert "Traceback" not in page.content()
        # The page goes on: the next question is answered.
        page.get_by_role("combobox", name="Clip", exact=True).click()
        page.get_by_role("option", name="Clip 2").click()
        page.get_by_role("button", name="Ask", exact=True).click()
        expect(page.locator(".tl-probability")).to_be_visible()


def test_a_visitor_finds_an_answered_example_and_no_answer_outlives_its_clip(
    browser: Browser, served: dict[str, str]
) -> None:
    with looking(browser, served["TOKENLINK_REST_URL"]) as watched:
        page = watched.page
        page.get_by_role("tab", name="Playground").click()
        expect(page.locator(".tl-probability")).to_be_visible()
        expect(page.locator("img.tl-heatmap").first).to_be_visible()
        page.get_by_role("combobox", name="Clip", exact=True).click()
        page.get_by_role("option", name="Clip 2").click()
        expect(page.locator(".tl-answer")).to_have_text("Ask something.")
        expect(page.locator(".tl-probability")).to_have_count(0)
        expect(page.locator("img.tl-heatmap").first).to_be_hidden()
        page.get_by_role("button", name="Ask", exact=True).click()
        expect(page.locator(".tl-probability")).to_be_visible()
        page.get_by_role("textbox", name="Question").fill(" ")
        page.get_by_role("button", name="Ask", exact=True).click()
        expect(page.locator(".tl-answer")).to_have_text("No answer")
        expect(page.locator("img.tl-heatmap").first).to_be_hidden()
        # The answer stays in sight while the link below it is changed.
        page.get_by_role("slider", name="Token length").scroll_into_view_if_needed()
        assert page.locator(".tl-answer").evaluate("e => e.getBoundingClientRect().top") >= 0


def test_a_clip_of_the_visitors_own_is_answered(browser: Browser, served: dict[str, str]) -> None:
    clip = ROOT / "deploy" / "demo" / "clips" / "soundstage_test_000016.mp4"
    with looking(browser, served["TOKENLINK_REST_URL"]) as watched:
        page = watched.page
        page.get_by_role("tab", name="Playground").click()
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Upload a clip").click()
        chooser.value.set_files(clip)
        expect(page.locator(".tl-player")).to_contain_text(clip.name)
        expect(page.locator(".tl-answer")).to_have_text("Ask something.")
        page.get_by_role("textbox", name="Question").fill("Where is the guitar?")
        page.get_by_role("textbox", name="Question").press("Enter")
        expect(page.locator(".tl-probability")).to_be_visible()
        expect(page.locator("img.tl-heatmap")).to_have_count(6)


@pytest.mark.parametrize(
    ("button", "shown"), [("Take a picture", "camera.jpg"), ("Record 4 s", "recording.webm")]
)
def test_a_visitors_camera_is_asked_about(
    browser: Browser, served: dict[str, str], button: str, shown: str
) -> None:
    with looking(browser, served["TOKENLINK_REST_URL"]) as watched:
        page = watched.page
        page.get_by_role("tab", name="Playground").click()
        page.get_by_role("button", name=button).click()
        expect(page.locator(".tl-player")).to_contain_text(shown)
        page.get_by_role("textbox", name="Question").fill("Where is the guitar?")
        page.get_by_role("textbox", name="Question").press("Enter")
        expect(page.locator(".tl-probability")).to_be_visible()


def test_a_camera_that_is_not_there_is_told(browser: Browser, served: dict[str, str]) -> None:
    absent = (
        "navigator.mediaDevices.getUserMedia = async () => { throw new Error('Requested device not found') }"
    )
    with looking(
        browser, served["TOKENLINK_REST_URL"], prepare=lambda context: context.add_init_script(absent)
    ) as watched:
        page = watched.page
        page.get_by_role("tab", name="Playground").click()
        page.get_by_role("button", name="Take a picture").click()
        expect(
            page.get_by_role("alert").filter(has_text="camera: Requested device not found")
        ).to_be_visible()


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_shows_all_without_scrolling_sideways(
    browser: Browser, served: dict[str, str], *, dark: bool
) -> None:
    sideways = "document.scrollingElement.scrollWidth - window.innerWidth"
    with looking(browser, served["TOKENLINK_REST_URL"], viewport=PHONE, dark=dark) as watched:
        page = watched.page
        expect(page.locator(".tl-tiles")).to_be_visible()
        assert page.evaluate(sideways) <= 0
        ask_in_playground(page)
        expect(page.locator(".tl-probability")).to_be_visible()
        assert page.evaluate(sideways) <= 0
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness = sum(map(int, background.removeprefix("rgb(").removesuffix(")").split(",")))
        assert (brightness < 200) == dark


CUT = """
() => [...document.querySelectorAll(".tl-toggle .q-btn")]
  .filter(e => e.offsetParent !== null)
  .filter(e => {
    const words = document.createRange();
    words.selectNodeContents(e.querySelector(".q-btn__content"));
    const [inner, outer] = [words.getBoundingClientRect(), e.getBoundingClientRect()];
    return inner.left < outer.left || inner.right > outer.right;
  })
  .map(e => e.innerText)
"""


@pytest.mark.parametrize("viewport", [(1280, 900), PHONE])
def test_every_choice_of_the_link_can_be_read(
    browser: Browser, weightless: WeightlessServer, viewport: tuple[int, int]
) -> None:
    with looking(browser, weightless.rest, viewport=viewport) as watched:
        page = watched.page
        page.get_by_role("tab", name="Playground").click()
        expect(page.get_by_role("button", name="AWGN")).to_be_visible()
        assert page.get_by_role("button", name="TDL-E").is_visible()
        assert page.evaluate(CUT) == []
        assert page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth") <= 0


OVERLAP = """
() => {
  const box = selector => document.querySelector(selector).getBoundingClientRect();
  const brand = document.createRange();
  brand.selectNodeContents(document.querySelector('.tl-brand'));
  return brand.getBoundingClientRect().right - box('.tl-pill').left;
}
"""


def test_a_phone_shows_its_header_whole_when_the_server_is_gone(browser: Browser, tmp_path: Path) -> None:
    server = WeightlessServer(tmp_path)
    server.start()
    forgiven = ("WebSocket connection", "ERR_CONNECTION_REFUSED", "Failed to load resource")
    try:
        with looking(browser, server.rest, viewport=PHONE, forgiven=forgiven) as watched:
            page = watched.page
            expect(page.get_by_role("status")).to_have_text("ready")
            assert page.evaluate(OVERLAP) <= 0
            server.kill()
            expect(page.locator("#popup")).to_have_attribute("aria-hidden", "false")
            assert page.evaluate(OVERLAP) <= 0
            assert page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth") <= 0
    finally:
        server.kill()


def test_icons_take_their_place_before_their_font_is_there(
    browser: Browser, weightless: WeightlessServer
) -> None:
    def prepare(context: BrowserContext) -> None:
        context.route("**/*.woff2", lambda route: route.abort())

    forgiven = ("Failed to load resource",)
    with looking(browser, weightless.rest, viewport=PHONE, prepare=prepare, forgiven=forgiven) as watched:
        page = watched.page
        for tab in ("Live", "Playground"):
            page.get_by_role("tab", name=tab).click()
            expect(page.locator(".tl-tiles, .tl-ask").filter(visible=True)).to_be_visible()
            assert page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth") <= 0
        assert page.evaluate("[...document.fonts].some(font => font.status === 'error')"), (
            "no font was missed"
        )


NAMELESS = """
() => [...document.querySelectorAll("button, a[href], input, textarea, [role=tab], [role=combobox]")]
  .filter(e => e.offsetParent !== null && !e.closest('.tl-uploader'))
  .filter(e => !(e.ariaLabel || e.innerText?.trim() || e.labels?.length
                 || e.closest('label')?.innerText?.trim() || e.getAttribute('aria-labelledby')))
  .map(e => e.outerHTML.slice(0, 200))
"""


def test_the_keyboard_reaches_everything_and_everything_has_a_name(
    browser: Browser, served: dict[str, str]
) -> None:
    with looking(browser, served["TOKENLINK_REST_URL"]) as watched:
        page = watched.page
        expect(page.locator(".tl-tiles")).to_be_visible()
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        page.get_by_role("tab", name="Live").focus()
        for _ in ("Scenes", "Playground"):
            page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Take a picture")).to_be_visible()
        assert page.evaluate(NAMELESS) == []
        page.get_by_role("textbox", name="Question").focus()
        page.keyboard.press("Enter")
        expect(page.locator(".tl-probability")).to_be_visible()
        assert page.evaluate("document.documentElement.lang") == "en-US"


def test_other_paths_keep_their_errors(weightless: WeightlessServer) -> None:
    with httpx.Client(base_url=weightless.rest) as http:
        assert http.get("/").headers["content-type"].startswith("text/html")
        assert http.get("/nothing-here").json()["error"]["code"] == "not_found"
        assert http.get("/v1/infer").json()["error"]["code"] == "method_not_allowed"
        missing = http.get("/_ui/clips/nothing-here")
        assert missing.status_code == 404
        clip = http.get("/_ui/clips/soundstage_test_000001.mp4", headers={"Range": "bytes=0-9"})
        assert (clip.status_code, len(clip.content)) == (206, 10)
        assert clip.headers["x-content-type-options"] == "nosniff"
