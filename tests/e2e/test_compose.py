"""``docker compose up --build`` for real: images are built, agents ask, and what dies comes back."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml

from tests.e2e.conftest import ROOT

DEPLOY = ROOT / "deploy"
CLIPS = {path.name for path in (DEPLOY / "demo" / "clips").glob("*.mp4")}
PROJECT = f"tokenlink-e2e-{os.getpid()}"
AGENTS = ("camera", "car", "cellar")
BUILT_WITHIN_S = 1200
ANSWERED_WITHIN_S = 180
HEALED_WITHIN_S = 30
ALERTED_WITHIN_S = 90


def compose_command() -> list[str] | None:
    """Compose as a plugin or as a program, whichever there is; None without it or without an engine."""
    if shutil.which("docker") is None or _fails("docker", "info"):
        return None
    if not _fails("docker", "compose", "version"):
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


def _fails(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode != 0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@dataclass
class Stack:
    compose: list[str]
    environment: dict[str, str]
    clips: Path

    def run(self, *arguments: str, timeout_s: float = 120) -> str:
        done = subprocess.run(
            [*self.compose, "-p", PROJECT, *arguments],
            cwd=DEPLOY,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def container(self, service: str) -> str:
        return self.run("ps", "-q", service).strip()

    def inspect(self, service: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(docker("inspect", self.container(service)))[0]
        return found

    def answers(self, service: str) -> dict[str, dict[str, object]]:
        """What an agent has reported so far, by the name of the clip; what it could not do yet left out."""
        found = {}
        for line in docker("logs", self.container(service)).splitlines():
            if line.startswith("{") and "answer" in (record := json.loads(line)):
                found[record["file"].rpartition("/")[2]] = record
        return found

    def ask_about(self, name: str) -> None:
        """A clip that is new to every agent."""
        source = next((DEPLOY / "demo" / "clips").glob("*.mp4"))
        shutil.copy(source, self.clips / f".{name}")
        (self.clips / f".{name}").rename(self.clips / name)

    def wait_for(self, service: str, condition: Callable[[], bool], within_s: float) -> float:
        """How long it took until a condition held [s]."""
        began_s = time.monotonic()
        while not condition():
            assert time.monotonic() - began_s < within_s, docker(
                "logs", "--tail", "30", self.container(service)
            )
            time.sleep(0.5)
        return time.monotonic() - began_s

    def healthy(self, service: str) -> bool:
        state = self.inspect(service)["State"]
        return state["Running"] and state["Health"]["Status"] == "healthy"

    def kill(self, service: str) -> None:
        """End its first process as a fault would; `docker kill` counts as wanted and is not restarted."""
        state = self.inspect(service)["State"]
        os.kill(state["Pid"], signal.SIGKILL)
        self.wait_for(
            service,
            lambda: self.inspect(service)["State"]["StartedAt"] != state["StartedAt"],
            HEALED_WITHIN_S,
        )

    def prometheus(self, path: str, **query: str) -> Any:
        port = self.environment["TOKENLINK_PROMETHEUS_PORT"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{path}?{urlencode(query)}") as response:
            return json.load(response)["data"]

    def value(self, expression: str) -> float | None:
        """What Prometheus makes of an expression, if it makes one thing of it."""
        try:
            found = self.prometheus("query", query=expression)["result"]
        except OSError:
            return None
        return float(found[0]["value"][1]) if len(found) == 1 else None

    def firing(self) -> set[str]:
        alerts = self.prometheus("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


def prometheus_image(folder: Path) -> dict[str, str]:
    """An image with this machine's Prometheus, where the official one is neither here nor in reach."""
    image = re.findall(r"TOKENLINK_PROMETHEUS_IMAGE:-(\S+)\}", (DEPLOY / "compose.yaml").read_text())[0]
    if not _fails("docker", "image", "inspect", image) or not _fails("docker", "pull", "-q", image):
        return {}
    programs = [shutil.which(name) for name in ("prometheus", "promtool")]
    for program in programs:
        if program is None:
            pytest.skip(f"{image} cannot be pulled, and Debian's prometheus is not installed")
        shutil.copy(program, folder)
    (folder / "Dockerfile").write_text(
        "FROM python:3.11-slim-bookworm\n"
        "COPY prometheus promtool /bin/\n"
        "RUN mkdir /prometheus && chown 65534:65534 /prometheus\n"
        'ENTRYPOINT ["/bin/prometheus"]\n'
    )
    docker("build", "-q", "-t", "tokenlink-e2e-prometheus", str(folder))
    return {"TOKENLINK_PROMETHEUS_IMAGE": "tokenlink-e2e-prometheus"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    compose = compose_command()
    if compose is None:
        pytest.skip("no Docker engine, or no compose")
    clips = tmp_path_factory.mktemp("clips")
    clips.chmod(0o755)
    for parent in clips.parents[:2]:
        parent.chmod(0o755)  # pytest's own folders are private; the agents are not root
    for name in CLIPS:
        shutil.copy(DEPLOY / "demo" / "clips" / name, clips)
    environment = {
        "TOKENLINK_GRPC_PORT": str(free_port()),
        "TOKENLINK_REST_PORT": str(free_port()),
        "TOKENLINK_PROMETHEUS_PORT": str(free_port()),
        "TOKENLINK_CLIPS": str(clips),
        "TOKENLINK_TAG": "e2e",
        **prometheus_image(tmp_path_factory.mktemp("prometheus")),
    }
    running = Stack(compose, os.environ | environment, clips)
    try:
        running.run("up", "--build", "--detach", timeout_s=BUILT_WITHIN_S)
        yield running
    finally:
        running.run("down", "--volumes", "--remove-orphans", "--timeout", "10")


@pytest.mark.docker
@pytest.mark.slow
class TestCompose:
    def test_every_agent_gets_every_clip_answered(self, stack: Stack) -> None:
        for service in AGENTS:
            stack.wait_for(
                service, lambda service=service: set(stack.answers(service)) >= CLIPS, ANSWERED_WITHIN_S
            )
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
            stack.wait_for(service, lambda service=service: stack.healthy(service), 90)

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

    def test_prometheus_sees_the_answers(self, stack: Stack) -> None:
        expected = len(AGENTS) * len(CLIPS)
        answered = 'sum(tokenlink_questions_total{outcome="answered"})'
        stack.wait_for("prometheus", lambda: (stack.value(answered) or 0) >= expected, 30)
        assert stack.value("tokenlink_sessions") == len(AGENTS)
        groups = stack.prometheus("rules")["groups"]
        assert all(rule["health"] == "ok" for group in groups for rule in group["rules"])

    @pytest.mark.parametrize("service", AGENTS)
    def test_an_agent_that_is_killed_comes_back_and_asks_nothing_twice(
        self, stack: Stack, service: str
    ) -> None:
        before = set(stack.answers(service))
        stack.kill(service)
        stack.ask_about(f"after-{service}.mp4")
        stack.wait_for(service, lambda: f"after-{service}.mp4" in stack.answers(service), HEALED_WITHIN_S)
        lines = docker("logs", stack.container(service)).splitlines()
        for name in before:
            assert sum(f"/{name}" in line and '"answer"' in line for line in lines) == 1, name

    def test_a_server_that_is_killed_comes_back_and_answers_what_was_asked_meanwhile(
        self, stack: Stack
    ) -> None:
        stack.kill("server")
        stack.ask_about("while-the-server-is-gone.mp4")
        took_s = stack.wait_for("server", lambda: stack.healthy("server"), HEALED_WITHIN_S)
        for service in AGENTS:
            stack.wait_for(
                service,
                lambda service=service: "while-the-server-is-gone.mp4" in stack.answers(service),
                HEALED_WITHIN_S - took_s,
            )

    def test_prometheus_that_is_killed_comes_back_with_what_it_knew(self, stack: Stack) -> None:
        stack.kill("prometheus")
        stack.wait_for("prometheus", lambda: stack.value('up{job="edge-server"}') == 1.0, HEALED_WITHIN_S)
        known_s = stack.value('max_over_time((time() - timestamp(up{job="edge-server"} offset 1m))[5m:5s])')
        assert known_s is not None

    def test_an_operator_is_told_when_the_server_is_gone_and_when_it_is_back(self, stack: Stack) -> None:
        stack.wait_for("prometheus", lambda: "EdgeServerDown" not in stack.firing(), ALERTED_WITHIN_S)
        stack.run("stop", "--timeout", "20", "server")
        # Stopped and not killed: it drained, and its exit code says that this was wanted.
        assert stack.inspect("server")["State"]["ExitCode"] == 0
        stack.wait_for("prometheus", lambda: "EdgeServerDown" in stack.firing(), ALERTED_WITHIN_S)
        stack.run("start", "server")
        stack.wait_for("server", lambda: stack.healthy("server"), HEALED_WITHIN_S)
        stack.wait_for("prometheus", lambda: "EdgeServerDown" not in stack.firing(), HEALED_WITHIN_S)


def snr_of(record: dict[str, object]) -> list[float]:
    told = record["effective_snr_db"]
    assert isinstance(told, dict)
    return list(told.values())


@pytest.mark.parametrize("overlay", ["compose.gpu.yaml"])
def test_overlays_are_read(overlay: str) -> None:
    compose = shutil.which("docker-compose")
    command = [compose] if compose else ["docker", "compose"]
    if not compose and (shutil.which("docker") is None or _fails(*command, "version")):
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
