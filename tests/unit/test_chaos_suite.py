from __future__ import annotations

from pathlib import Path

from tests.chaos.suite import read_report, run_tests

SUITE = """
import pytest

def test_kept(): pass

def test_broken(): assert False

@pytest.mark.skip(reason="no engine")
def test_left_out(): pass

@pytest.fixture
def falls(): raise RuntimeError("down")

def test_without_ground(falls): pass
"""


async def test_tests_are_counted_as_what_became_of_them(tmp_path: Path) -> None:
    suite = tmp_path / "test_suite.py"
    suite.write_text(SUITE)
    found = await run_tests([str(suite)], tmp_path)
    assert [name.partition("::")[2] for name in found.seconds] == ["test_kept"]
    assert [name.partition("::")[2] for name in found.failed] == ["test_broken", "test_without_ground"]
    ((name, reason),) = found.skipped.items()
    assert (name.partition("::")[2], reason) == ("test_left_out", "no engine")
    assert read_report(tmp_path / "report.xml") == found


async def test_of_a_suite_that_is_not_there_nothing_has_passed(tmp_path: Path) -> None:
    found = await run_tests([str(tmp_path / "nowhere.py")], tmp_path)
    assert not found.seconds
