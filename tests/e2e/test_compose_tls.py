"""The stack with mutual TLS: devices enrol by themselves, strangers and the revoked stay outside."""

from __future__ import annotations

import json
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stack import (
    AGENTS,
    ANSWERED_WITHIN_S,
    CLIPS,
    DEPLOY,
    HEALED_WITHIN_S,
    Stack,
    brought_up,
    docker,
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with brought_up(["compose.yaml", "compose.tls.yaml"], tmp_path_factory) as running:
        yield running


@pytest.fixture
def trust(stack: Stack, tmp_path: Path) -> ssl.SSLContext:
    """The authority's certificate, and no other."""
    docker("cp", f"{stack.container('server')}:/certs/ca.pem", str(tmp_path / "ca.pem"))
    return ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))


def get(stack: Stack, path: str, trust: ssl.SSLContext, key: str = "") -> int:
    url = f"https://127.0.0.1:{stack.environment['TOKENLINK_REST_PORT']}{path}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(request, context=trust, timeout=HEALED_WITHIN_S) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def refused_at_the_door(stack: Stack) -> float:
    return stack.value('sum(tokenlink_rejections_total{reason="revoked"})') or 0.0


@pytest.mark.docker
@pytest.mark.slow
class TestComposeTls:
    def test_every_device_enrols_and_is_answered(self, stack: Stack) -> None:
        for service in AGENTS:
            stack.wait_for_answers(service, CLIPS, ANSWERED_WITHIN_S)
            left = docker(
                "exec", stack.container(service), "ls", "/var/lib/tokenlink", "/var/lib/tokenlink/identity"
            )
            assert "device.key" in left
            assert "enrol.token" not in left  # used, and gone

    def test_a_second_up_enrols_nobody_again(self, stack: Stack) -> None:
        listing = ("exec", "-T", "server", "edge-server", "certs", "list", "--dir", "/certs", "--json")
        before = json.loads(stack.run(*listing))
        assert len(before) == len(AGENTS)
        stack.run("up", "--detach")
        assert json.loads(stack.run(*listing)) == before

    def test_a_device_without_a_certificate_stays_outside(self, stack: Stack) -> None:
        command = [
            *stack.compose,
            *("run", "--rm", "--no-deps", "-e", "TOKENLINK_DEVICE_IDENTITY=/tmp/none"),
            *("--entrypoint", "device-agent", "camera", "pull", "--retries", "0"),
        ]
        stranger = subprocess.run(
            command,
            cwd=DEPLOY,
            env=stack.environment,
            capture_output=True,
            text=True,
            timeout=HEALED_WITHIN_S,
            check=False,
        )
        assert stranger.returncode != 0
        assert "device-agent: " in stranger.stderr + stranger.stdout

    def test_rest_speaks_https_and_asks_for_a_key(self, stack: Stack, trust: ssl.SSLContext) -> None:
        assert get(stack, "/readyz", trust) == 200
        assert get(stack, "/v1/models", trust) == 401
        key = stack.run(
            "exec", "-T", "server", "edge-server", "keys", "add", "test", "--dir", "/certs"
        ).strip()
        assert get(stack, "/v1/models", trust, key) == 200
        assert get(stack, "/v1/models", trust, key[:-1] + "x") == 401

    def test_prometheus_reads_over_tls(self, stack: Stack) -> None:
        stack.wait_for("prometheus", lambda: stack.value('up{job="edge-server"}') == 1.0, HEALED_WITHIN_S)

    def test_a_device_that_is_revoked_gets_no_further_answer(self, stack: Stack) -> None:
        before = refused_at_the_door(stack)
        stack.run("exec", "-T", "server", "edge-server", "certs", "revoke", "car", "--dir", "/certs")
        stack.ask_about("after-the-revocation.mp4")
        stack.wait_for_answers("camera", {"after-the-revocation.mp4"}, HEALED_WITHIN_S)
        stack.wait_for("server", lambda: refused_at_the_door(stack) > before, HEALED_WITHIN_S)
        assert "after-the-revocation.mp4" not in stack.answers("car")
