"""The load test against the shipped model: every kind of user asks, and nothing fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT


def run_locust(served: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "locust", "--locustfile", "deploy/loadtest/locustfile.py", "--headless"]
    return subprocess.run(
        [*command, "--only-summary", "--users", "4", "--spawn-rate", "8", "--run-time", "6s", *arguments],
        cwd=ROOT,
        env=served,
        capture_output=True,
        text=True,
        timeout=900,
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


def run_profile(
    served: dict[str, str], folder: Path, *arguments: str
) -> tuple[subprocess.CompletedProcess[str], Path]:
    out = folder / "report.json"
    command = [sys.executable, "-m", "deploy.loadtest", *arguments, "--out", str(out)]
    done = subprocess.run(
        command, cwd=ROOT, env=served, capture_output=True, text=True, timeout=900, check=False
    )
    return done, out


@pytest.mark.parametrize("transport", ["grpc", "rest", "agents"])
def test_every_transport_is_answered(served: dict[str, str], tmp_path: Path, transport: str) -> None:
    picture = tmp_path / "smoke.png"
    done, out = run_profile(
        served, tmp_path, "smoke", "--transport", transport, "--seconds", "2", "--plot", str(picture)
    )
    assert done.returncode in (0, 1), done.stderr  # 1: too slow on a busy machine
    report = json.loads(out.read_text())
    measured = report["phases"][0]["measurements"]["all"]
    assert measured["outcomes"].keys() == {"answered"}
    assert measured["offered"] == measured["sent"] == measured["latency"]["count"] > 0
    assert report["connected"]["count"] == 6
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_threshold_that_does_not_hold_fails_the_run(served: dict[str, str], tmp_path: Path) -> None:
    profile = tmp_path / "hasty.toml"
    profile.write_text(
        'summary = "hasty"\n[[groups]]\ncount = 2\n'
        '[[phases]]\nname = "hasty"\nmode = "open"\nseconds = 1\nrate_hz = 20\n'
        "[phases.thresholds.all]\nmax_p50_s = 1e-6\n"
    )
    done, out = run_profile(served, tmp_path, str(profile))
    assert done.returncode == 1, done.stderr
    assert "does not hold: hasty, all: p50 is" in done.stdout
    assert json.loads(out.read_text())["broken"]


def test_a_profile_or_a_server_that_is_not_there_is_said(served: dict[str, str], tmp_path: Path) -> None:
    done, _ = run_profile(served, tmp_path, "no-such-profile")
    assert done.returncode == 2
    assert "smoke" in done.stderr
    done, _ = run_profile(served, tmp_path, "smoke", "--grpc", "127.0.0.1:1")
    assert done.returncode == 2
    assert "127.0.0.1:1" in done.stderr
