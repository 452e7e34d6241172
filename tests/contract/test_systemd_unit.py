"""The agent's systemd unit, by systemd's own judgement, and the example settings beside it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from device_agent.config import load_settings
from tests.waiting import PATIENCE_S

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
UNIT = "tokenlink-agent.service"
MOST_EXPOSED = 20
"""In tenths of systemd's points; a service without any of the settings has 96."""

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with an agent that is there."""
    path = tmp_path / UNIT
    agent = Path(sys.executable).with_name("device-agent")
    path.write_text((FOLDER / UNIT).read_text().replace("/opt/tokenlink/bin/device-agent", str(agent)))
    return path


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@needs_systemd
def test_systemd_reads_the_unit_without_complaint(unit: Path) -> None:
    verified = analyze("verify", "--man=no", unit)
    assert (verified.returncode, verified.stderr) == (0, "")


@needs_systemd
def test_a_unit_that_is_wrong_would_be_noticed(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("WatchdogSec=30", "WatchdogSec=often"))
    assert "often" in analyze("verify", "--man=no", unit).stderr


@needs_systemd
def test_the_service_may_do_little(unit: Path) -> None:
    judged = analyze("security", "--no-pager", "--offline=true", f"--threshold={MOST_EXPOSED}", unit)
    assert judged.returncode == 0, judged.stdout[-300:]
    unit.write_text(unit.read_text().replace("DynamicUser=yes", "User=root"))
    judged = analyze("security", "--no-pager", "--offline=true", f"--threshold={MOST_EXPOSED}", unit)
    assert judged.returncode != 0


def test_the_example_settings_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENLINK_DEVICE_CONFIG", str(FOLDER / "device.toml"))
    settings = load_settings({})
    assert settings.device_id == "pole-17"
    assert settings.channel == "rayleigh"


def test_the_unit_sets_what_the_example_environment_leaves_out() -> None:
    unit = (FOLDER / UNIT).read_text()
    used = set(re.findall(r"\$\{(\w+)\}", unit))
    set_here = set(re.findall(r"^Environment=(\w+)=", unit, re.MULTILINE))
    set_there = set(re.findall(r"^(\w+)=", (FOLDER / "watch.env").read_text(), re.MULTILINE))
    assert used
    assert used <= set_here | set_there
