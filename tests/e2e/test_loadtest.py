"""The load test against the shipped model: every kind of user asks, and nothing fails."""

from __future__ import annotations

import subprocess

import pytest

from tests.e2e.conftest import ROOT


def run_locust(served: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["locust", "--locustfile", "deploy/loadtest/locustfile.py", "--headless", "--only-summary"]
    return subprocess.run(
        [*command, "--users", "4", "--spawn-rate", "8", "--run-time", "6s", *arguments],
        cwd=ROOT,
        env=served,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_devices_and_rest_clients_are_answered(served: dict[str, str]) -> None:
    done = run_locust(served)
    assert done.returncode == 0, done.stderr
    for name in ("Ask (video, audio)", "/v1/models"):
        assert name in done.stderr + done.stdout


@pytest.mark.parametrize("door", [("--grpc", "127.0.0.1:1"), ("--host", "http://127.0.0.1:1")])
def test_a_door_that_is_closed_fails_the_run(served: dict[str, str], door: tuple[str, str]) -> None:
    done = run_locust(served, *door)
    assert done.returncode != 0
