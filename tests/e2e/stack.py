"""A compose project on a real Docker engine, and what tests ask of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.e2e.conftest import ROOT
from tests.ports import free_port

DEPLOY = ROOT / "deploy"
CLIPS = {path.name for path in (DEPLOY / "demo" / "clips").glob("*.mp4")}
AGENTS = ("camera", "car", "cellar")
BUILT_WITHIN_S = 1200
ANSWERED_WITHIN_S = 900
HEALED_WITHIN_S = 300
"""Bounds of patience, not promises: what is waited for is seen at once, and a machine may be busy."""


def compose_command() -> list[str] | None:
    """Compose as a plugin or as a program, whichever there is; None without it or without an engine."""
    if shutil.which("docker") is None or fails("docker", "info"):
        return None
    if not fails("docker", "compose", "version"):
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


def fails(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, timeout=HEALED_WITHIN_S, check=False).returncode != 0


def docker(*arguments: str) -> str:
    done = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=HEALED_WITHIN_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@dataclass
class Stack:
    """What was brought up.

    Attributes:
        compose: the command, with project and files.
        environment: of that command.
        clips: folder that the agents watch.
    """

    compose: list[str]
    environment: dict[str, str]
    clips: Path

    def run(self, *arguments: str, timeout_s: float = HEALED_WITHIN_S) -> str:
        done = subprocess.run(
            [*self.compose, *arguments],
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

    def wait_for_answers(self, service: str, names: set[str], within_s: float) -> None:
        self.wait_for(service, lambda: set(self.answers(service)) >= names, within_s)

    def healthy(self, service: str) -> bool:
        state = self.inspect(service)["State"]
        return bool(state["Running"] and state["Health"]["Status"] == "healthy")

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
    if not fails("docker", "image", "inspect", image) or not fails("docker", "pull", "-q", image):
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


@contextmanager
def brought_up(files: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A project of these compose files, for as long as the context lasts; skips without an engine."""
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
    named = [argument for file in files for argument in ("-f", file)]
    project = f"tokenlink-e2e-{os.getpid()}-{len(files)}"
    running = Stack([*compose, "-p", project, *named], os.environ | environment, clips)
    try:
        running.run("up", "--build", "--detach", timeout_s=BUILT_WITHIN_S)
        yield running
    finally:
        running.run("down", "--volumes", "--remove-orphans", "--timeout", "10")
