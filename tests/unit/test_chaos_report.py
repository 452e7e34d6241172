"""What the rows of chaos are judged and kept by; the corpus that one of them sends."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.benchmarks.promises.history import History
from tests.chaos import report as reporting
from tests.chaos.bystanders import Fared
from tests.chaos.hostile_files.corpus import FAMILIES, MAX_BYTES, hostile_file
from tests.chaos.hostile_files.spoiling import spoilt
from tests.chaos.known import Ending, answers_of, wrong
from tests.chaos.report import Report
from tests.chaos.row import Row, Settled, exactly
from tests.unit.test_promises import git


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "device_agent").mkdir()
    (tmp_path / "device_agent/agent.py").write_text("1")
    (tmp_path / "notes").write_text("1")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    monkeypatch.setattr(reporting, "current_commit", lambda: git(tmp_path, "rev-parse", "HEAD"))
    return tmp_path


def changed(checkout: Path, path: str) -> None:
    (checkout / path).write_text("2")
    git(checkout, "commit", "--quiet", "--all", "--message", "later")


def row(kept: bool = True) -> Row:
    settled = Settled("that it holds", 1, kept)
    return Row("Kills", "killed", [exactly("lost", 0 if kept else 1, 0)], settles=[settled])


def test_a_row_is_kept_until_what_it_measures_changes(checkout: Path) -> None:
    path = checkout / "build/chaos.json"
    Report(path, "full", History(checkout)).put("kills", row(), 1.23)
    assert Report(path, "full", History(checkout)).holds("kills")
    assert not Report(path, "full", History(checkout)).holds("soak")
    assert not Report(path, "quick", History(checkout)).holds("kills")
    changed(checkout, "notes")
    assert Report(path, "full", History(checkout)).holds("kills")
    changed(checkout, "device_agent/agent.py")
    assert not Report(path, "full", History(checkout)).holds("kills")


def test_two_runs_write_into_one_file(checkout: Path) -> None:
    path = checkout / "chaos.json"
    one, other = (Report(path, "full", History(checkout)) for _ in range(2))
    one.put("kills", row(), 1.0)
    other.put("soak", row(), 1.0)
    assert list(json.loads(path.read_text())["rows"]) == ["kills", "soak"]


def test_a_row_that_was_not_kept_or_was_run_with_changes_is_run_again(checkout: Path) -> None:
    path = checkout / "chaos.json"
    Report(path, "full", History(checkout)).put("kills", row(kept=False), 1.0)
    assert not Report(path, "full", History(checkout)).holds("kills")
    (checkout / "device_agent/agent.py").write_text("3")
    Report(path, "full", History(checkout)).put("kills", row(), 1.0)
    written = json.loads(path.read_text())
    assert written["rows"]["kills"]["commit"] == "unknown"
    assert not Report(path, "full", History(checkout)).holds("kills")


def test_what_rows_settle_stands_at_the_top_with_their_commit(checkout: Path) -> None:
    path = checkout / "chaos.json"
    Report(path, "full", History(checkout)).put("kills", row(), 1.0)
    written = json.loads(path.read_text())
    (settled,) = written["promises"]
    assert (settled["what"], settled["met"]) == ("that it holds", True)
    assert settled["commit"] == git(checkout, "rev-parse", "HEAD")
    assert written["command"] == "python -m tests.chaos"


def test_the_p99_of_what_was_never_answered_is_for_ever() -> None:
    fared = Fared({"grpc": [0.1] * 98}, Counter(grpc=98))
    assert fared.p99_s("grpc") == 0.1
    fared.add(Fared({"grpc": [0.2]}, Counter(grpc=2), Counter({"refused": 1})))
    assert (fared.p99_s("grpc"), fared.answered("grpc")) == (0.2, 99)
    fared.add(Fared({}, Counter(grpc=2)))
    assert math.isinf(fared.p99_s("grpc"))


def test_an_answer_is_wrong_that_was_never_given_unhurt() -> None:
    right = answers_of([Ending(1, 0, 1, "a"), Ending(1, 0, 1, "b"), Ending(2, 0, 1, None, "lost")])
    assert right == {1: frozenset("ab")}
    told = [Ending(1, 0, 1, "b"), Ending(1, 0, 1, "c"), Ending(1, 0, 1, None, "failed")]
    assert wrong(told, right) == [told[1]]


@pytest.mark.parametrize("number", range(len(FAMILIES)))
def test_every_family_makes_another_file_each_time_and_the_same_again(number: int) -> None:
    name, _, make = FAMILIES[number]
    first, again, other = make(random.Random(1)), make(random.Random(1)), make(random.Random(2))
    assert 16 < len(first) < 4 * MAX_BYTES, name
    assert first == again
    assert first != other
    assert spoilt(first, random.Random(3)) != first


def test_a_number_and_a_seed_name_a_file() -> None:
    files = [hostile_file(number, 1) for number in range(0, 40, 13)]
    assert [hostile_file(number, 1) for number in range(0, 40, 13)] == files
    assert hostile_file(13, 2) != files[1]
    assert all(len(file.data) <= MAX_BYTES for file in files)
