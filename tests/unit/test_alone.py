"""What failed beside others is tried again alone: tests that fail now and then, or always."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import alone

ROOT = Path(__file__).resolve().parents[2]

COUNTED = """
from pathlib import Path

def test_counted():
    kept = Path(__file__).with_suffix(".count")
    count = int(kept.read_text()) + 1 if kept.exists() else 1
    kept.write_text(str(count))
    assert count not in {failing}
"""


def run(folder: Path, **tests: str) -> subprocess.CompletedProcess[str]:
    for name, text in tests.items():
        (folder / f"test_{name}.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "tests.alone", "-p", "no:cacheprovider", "-p", "no:xdist"]
    told = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        command, cwd=folder, env=told | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize(
    ("failing", "status", "unsteady"),
    [
        (set(), 0, False),
        ({1}, 0, True),
        ({1, 3}, 1, False),  # alone, the second time
        (set(range(99)), 1, False),
    ],
)
def test_only_what_passes_each_time_alone_is_let_pass(
    tmp_path: Path, failing: set[int], status: int, unsteady: bool
) -> None:
    counted = COUNTED.replace("{failing}", repr(failing or {0}))
    done = run(tmp_path, counted=counted, good="def test(): pass\n")
    assert done.returncode == status, done.stdout + done.stderr
    assert ("UNSTEADY test_counted.py::test_counted" in done.stdout) is unsteady


def test_many_that_fail_are_not_tried_again(tmp_path: Path) -> None:
    once = COUNTED.replace("{failing}", "{1}")
    done = run(tmp_path, **{f"counted_{number}": once for number in range(alone.MOST + 1)})
    assert done.returncode == 1
    assert "UNSTEADY" not in done.stdout


def test_what_cannot_be_collected_is_no_chance(tmp_path: Path) -> None:
    done = run(tmp_path, broken="import nothing_of_that_name\n")
    assert done.returncode == 2
    assert "alone" not in done.stdout
