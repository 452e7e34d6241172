"""``docker compose up --build`` for real: images are built, agents ask, and what dies comes back."""

from __future__ import annotations

import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator

import pytest
import yaml
from playwright.sync_api import Browser, expect

from tests.e2e.browsing import looking
from tests.e2e.stack import (
    AGENTS,
    ANSWERED_WITHIN_S,
    CLIPS,
    DEPLOY,
    HEALED_WITHIN_S,
    Stack,
    brought_up,
    docker,
    fails,
)

ALERTED_WITHIN_S = 600


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with brought_up(["compose.yaml"], tmp_path_factory) as running:
        yield running


@pytest.mark.docker
class TestCompose:
    def test_every_agent_gets_every_clip_answered(self, stack: Stack) -> None:
        for service in AGENTS:
            stack.wait_for_answers(service, CLIPS, ANSWERED_WITHIN_S)
            assert set(stack.answers(service)) == CLIPS

    def test_the_agents_have_different_links(self, stack: Stack) -> None:
        snrs_db = {
            service: [snr for record in stack.answers(service).values() for snr in snr_of(record)]
            for service in AGENTS
        }
        assert snrs_db["camera"] == [10.0] * 2 * len(CLIPS)  # AWGN: what was set
        assert all(snr_db != 5.0 for snr_db in snrs_db["car"])  # fading: as it comes
        assert sorted(snrs_db["cellar"])[0] < 0.0 < min(snrs_db["car"])

    def test_everything_becomes_healthy(self, stack: Stack) -> None:
        for service in ("server", *AGENTS, "prometheus"):
            stack.wait_for(service, lambda service=service: stack.healthy(service), HEALED_WITHIN_S)

    @pytest.mark.parametrize("service", ["server", *AGENTS, "prometheus"])
    def test_nothing_may_do_more_than_it_needs(self, stack: Stack, service: str) -> None:
        container = stack.container(service)
        assert docker("exec", container, "id", "-u").strip() != "0"
        host = stack.inspect(service)["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert not host["CapAdd"]
        assert "no-new-privileges:true" in host["SecurityOpt"]
        assert host["Memory"] > 0
        assert host["PidsLimit"] > 0
        status = docker("exec", container, "cat", "/proc/1/status")
        assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
        assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
        refused = subprocess.run(
            ["docker", "exec", container, "sh", "-c", "echo > /etc/written"], capture_output=True, text=True
        )
        assert "Read-only" in refused.stderr

    def test_the_device_image_has_no_torch(self, stack: Stack) -> None:
        packages = docker("exec", stack.container("camera"), "python", "-m", "pip", "list", "--format=freeze")
        names = {line.partition("==")[0].lower() for line in packages.splitlines()}
        assert "onnxruntime" in names
        assert not names & {"torch", "transformers", "peft", "safetensors"}
        code = "import importlib.util as u, sys; sys.exit(u.find_spec('torch') is not None)"
        docker("exec", stack.container("camera"), "python", "-c", code)

    def test_the_server_is_reached_from_outside_and_only_from_this_machine(self, stack: Stack) -> None:
        found = re.findall(r"(\S+):(\d+)", docker("port", stack.container("server"), "8080"))
        assert found == [("127.0.0.1", stack.environment["TOKENLINK_REST_PORT"])]

    def test_the_page_offers_the_clips_that_came_with_the_image(self, stack: Stack, browser: Browser) -> None:
        url = f"http://127.0.0.1:{stack.environment['TOKENLINK_REST_PORT']}"
        with looking(browser, url) as watched:
            page = watched.page
            page.get_by_role("tab", name="Playground").click()
            page.get_by_role("combobox", name="Clip", exact=True).click()
            expect(page.get_by_role("option")).to_have_count(len(CLIPS))
            shown = page.locator(".tl-player video").get_attribute("src")
            with urllib.request.urlopen(f"{url}{shown}") as response:
                clip = response.read()
        assert clip in [path.read_bytes() for path in (DEPLOY / "demo" / "clips").glob("*.mp4")]

    def test_prometheus_sees_the_answers(self, stack: Stack) -> None:
        expected = len(AGENTS) * len(CLIPS)
        answered = 'sum(tokenlink_questions_total{outcome="answered"})'
        stack.wait_for("prometheus", lambda: (stack.value(answered) or 0) >= expected, HEALED_WITHIN_S)
        assert stack.value("tokenlink_sessions") == len(AGENTS)
        groups = stack.prometheus("rules")["groups"]
        assert all(rule["health"] == "ok" for group in groups for rule in group["rules"])

    @pytest.mark.parametrize(
        "service", [AGENTS[0], *(pytest.param(name, marks=pytest.mark.slow) for name in AGENTS[1:])]
    )
    def test_an_agent_that_is_killed_comes_back_and_asks_nothing_twice(
        self, stack: Stack, service: str
    ) -> None:
        before = set(stack.answers(service))
        stack.kill(service)
        stack.ask_about(f"after-{service}.mp4")
        stack.wait_for_answers(service, {f"after-{service}.mp4"}, HEALED_WITHIN_S)
        lines = docker("logs", stack.container(service)).splitlines()
        for name in before:
            assert sum(f"/{name}" in line and '"answer"' in line for line in lines) == 1, name

    def test_a_server_that_is_killed_comes_back_and_answers_what_was_asked_meanwhile(
        self, stack: Stack
    ) -> None:
        stack.kill("server")
        stack.ask_about("while-the-server-is-gone.mp4")
        stack.wait_for("server", lambda: stack.healthy("server"), HEALED_WITHIN_S)
        for service in AGENTS:
            stack.wait_for_answers(service, {"while-the-server-is-gone.mp4"}, HEALED_WITHIN_S)

    def test_prometheus_that_is_killed_comes_back_with_what_it_knew(self, stack: Stack) -> None:
        answered = 'sum(tokenlink_questions_total{{outcome="answered"}}{at})'
        # The server of the test before has answered again, and that was seen.
        stack.wait_for("prometheus", lambda: bool(stack.value(answered.format(at=""))), HEALED_WITHIN_S)
        # Asked as of one moment, so that it is what was known then that is compared, not what came since.
        known = answered.format(at=f" @ {stack.value('vector(time())')}")
        before = stack.value(known)
        assert before
        stack.kill("prometheus")
        stack.wait_for("prometheus", lambda: stack.value('up{job="edge-server"}') == 1.0, HEALED_WITHIN_S)
        assert stack.value(known) == before

    @pytest.mark.slow
    def test_an_operator_is_told_when_the_server_is_gone_and_when_it_is_back(self, stack: Stack) -> None:
        stack.wait_for("prometheus", lambda: "EdgeServerDown" not in stack.firing(), ALERTED_WITHIN_S)
        stack.run("stop", "--timeout", str(HEALED_WITHIN_S), "server")
        # Stopped and not killed: it drained, and its exit code says that this was wanted.
        assert stack.inspect("server")["State"]["ExitCode"] == 0
        stack.wait_for("prometheus", lambda: "EdgeServerDown" in stack.firing(), ALERTED_WITHIN_S)
        stack.run("start", "server")
        stack.wait_for("server", lambda: stack.healthy("server"), HEALED_WITHIN_S)
        stack.wait_for("prometheus", lambda: "EdgeServerDown" not in stack.firing(), ALERTED_WITHIN_S)


def snr_of(record: dict[str, object]) -> list[float]:
    told = record["effective_snr_db"]
    assert isinstance(told, dict)
    return list(told.values())


@pytest.mark.parametrize("overlay", ["compose.gpu.yaml", "compose.tls.yaml"])
def test_overlays_are_read(overlay: str) -> None:
    compose = shutil.which("docker-compose")
    command = [compose] if compose else ["docker", "compose"]
    if not compose and (shutil.which("docker") is None or fails(*command, "version")):
        pytest.skip("no compose")
    done = subprocess.run(
        [*command, "-f", "compose.yaml", "-f", overlay, "config"],
        cwd=DEPLOY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    server = yaml.safe_load(done.stdout)["services"]["server"]
    assert server["read_only"]  # what the overlay does not speak of stays
