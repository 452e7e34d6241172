"""``docker compose up --build`` for real: images are built, agents ask, answers come."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.conftest import ROOT

DEPLOY = ROOT / "deploy"
CLIPS = {path.name for path in (DEPLOY / "demo" / "clips").glob("*.mp4")}
PROJECT = "tokenlink-e2e"
BUILT_WITHIN_S = 1200
ANSWERED_WITHIN_S = 180


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

    def answers(self, service: str) -> dict[str, dict[str, object]]:
        """What an agent has reported so far, by the name of the clip."""
        found = {}
        for line in docker("logs", self.container(service)).splitlines():
            if line.startswith("{"):
                record = json.loads(line)
                found[record["file"].rpartition("/")[2]] = record
        return found

    def health(self, service: str) -> str:
        return docker("inspect", "-f", "{{.State.Health.Status}}", self.container(service)).strip()


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    compose = compose_command()
    if compose is None:
        pytest.skip("no Docker engine, or no compose")
    ports = {"TOKENLINK_GRPC_PORT": str(free_port()), "TOKENLINK_REST_PORT": str(free_port())}
    running = Stack(compose, os.environ | ports)
    try:
        running.run("up", "--build", "--detach", timeout_s=BUILT_WITHIN_S)
        yield running
    finally:
        running.run("down", "--volumes", "--remove-orphans", "--timeout", "10")


def wait_for(condition: object, within_s: float, state: object) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline_s, state()  # type: ignore[operator]
        time.sleep(1)


@pytest.mark.docker
@pytest.mark.slow
class TestCompose:
    def test_both_agents_get_every_clip_answered(self, stack: Stack) -> None:
        for service in ("camera", "car"):
            wait_for(
                lambda service=service: set(stack.answers(service)) >= CLIPS,
                ANSWERED_WITHIN_S,
                lambda service=service: docker("logs", stack.container(service)),
            )
            answers = stack.answers(service)
            assert set(answers) == CLIPS
            assert all(record.get("answer") for record in answers.values()), answers

    def test_the_agents_have_different_links(self, stack: Stack) -> None:
        snrs_db = {
            service: [snr for record in stack.answers(service).values() for snr in snr_of(record)]
            for service in ("camera", "car")
        }
        assert snrs_db["camera"] == [10.0] * 2 * len(CLIPS)  # AWGN: what was set
        assert all(snr_db != 5.0 for snr_db in snrs_db["car"])  # fading: as it comes

    def test_everything_becomes_healthy(self, stack: Stack) -> None:
        for service in ("server", "camera", "car"):
            wait_for(
                lambda service=service: stack.health(service) == "healthy",
                60,
                lambda service=service: docker(
                    "inspect", "-f", "{{json .State.Health}}", stack.container(service)
                ),
            )

    @pytest.mark.parametrize("service", ["server", "camera", "car"])
    def test_nothing_runs_as_root(self, stack: Stack, service: str) -> None:
        assert docker("exec", stack.container(service), "id", "-u").strip() != "0"

    def test_the_device_image_has_no_torch(self, stack: Stack) -> None:
        packages = docker("exec", stack.container("camera"), "python", "-m", "pip", "list", "--format=freeze")
        names = {line.partition("==")[0].lower() for line in packages.splitlines()}
        assert "onnxruntime" in names
        assert not names & {"torch", "transformers", "peft", "safetensors"}
        code = "import importlib.util as u, sys; sys.exit(u.find_spec('torch') is not None)"
        docker("exec", stack.container("camera"), "python", "-c", code)

    def test_the_server_is_reached_from_outside(self, stack: Stack) -> None:
        found = re.search(r"127\.0\.0\.1:(\d+)", docker("port", stack.container("server"), "8080"))
        assert found
        assert found[1] == stack.environment["TOKENLINK_REST_PORT"]


def snr_of(record: dict[str, object]) -> list[float]:
    told = record["effective_snr_db"]
    assert isinstance(told, dict)
    return list(told.values())
