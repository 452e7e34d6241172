"""Answers that are kept: per device, within bounds, until acknowledged, in memory and in a file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from device_agent.lasting import LastingClock
from edge_server.cell.answer_file import AnswerFile
from edge_server.cell.answers import DropReason, KeptAnswer, KeptAnswers
from edge_server.cell.arrivals import MAX_DELAY_S, Arrivals
from edge_server.engine import Completion
from edge_server.errors import AdmissionRefusedError, ConfigurationError
from tests.clock import FakeClock
from tests.waiting import PATIENCE_S


def completion(text: str = "yes") -> Completion:
    return Completion(text, 0.5, 10, 1, 0.25, 0.125, "stop", logprobs=(-0.5, -0.19314718))


class Watching:
    def __init__(self) -> None:
        self.kept = 0
        self.dropped: Counter[str] = Counter()

    def answers_kept(self, count: int) -> None:
        self.kept = count

    def answers_dropped(self, reason: DropReason, count: int) -> None:
        self.dropped[reason] += count


def fill(answers: KeptAnswers, device_id: str, count: int) -> None:
    for number in range(count):
        answers.keep(device_id, f"q{number}", b"digest", completion(str(number)))


def held(answers: KeptAnswers, device_id: str, count: int) -> list[int]:
    return [number for number in range(count) if answers.get(device_id, f"q{number}") is not None]


def test_an_answer_is_its_devices_alone_and_goes_when_acknowledged() -> None:
    watching = Watching()
    answers = KeptAnswers(10, 10, 60.0, clock=FakeClock(), observer=watching)
    fill(answers, "a", 2)
    fill(answers, "b", 1)
    kept = answers.get("a", "q1")
    assert kept is not None
    assert (kept.completion, kept.digest) == (completion("1"), b"digest")
    answers.acknowledge("b", ["q1", "unknown"])
    answers.acknowledge("a", ["q0"])
    answers.acknowledge("nobody", ["q0"])
    assert (held(answers, "a", 2), held(answers, "b", 2)) == ([1], [0])
    assert (watching.kept, watching.dropped) == (2, Counter())


def test_bounds_take_the_oldest_and_are_told_apart() -> None:
    clock, watching = FakeClock(), Watching()
    answers = KeptAnswers(3, 5, 60.0, clock=clock, observer=watching)
    fill(answers, "a", 5)
    assert held(answers, "a", 5) == [2, 3, 4]
    clock.advance(30.0)
    fill(answers, "b", 3)
    assert held(answers, "a", 5) == [3, 4]
    assert held(answers, "b", 3) == [0, 1, 2]
    clock.advance(30.0)
    assert held(answers, "a", 5) == []
    assert held(answers, "b", 3) == [0, 1, 2]
    assert watching.dropped == {"device_full": 2, "full": 1, "expired": 2}
    assert watching.kept == len(answers) == 3


async def test_a_file_brings_answers_back_as_they_were_and_in_their_order(tmp_path: Path) -> None:
    clock = FakeClock()
    path = tmp_path / "deep" / "answers.db"
    file = AnswerFile(path)
    answers = KeptAnswers(10, 10, 60.0, clock=clock, store=file, restored=file.restored())
    stored = []
    for number in range(4):
        clock.advance(1.0)
        stored.append(answers.keep("a", f"q{number}", bytes([number]), completion(f"ä{number}")))
    for done in stored:
        assert done is not None
        await asyncio.wait_for(done, PATIENCE_S)
    answers.acknowledge("a", ["q1"])
    clock.advance(57.5)
    assert answers.get("a", "q0") is None  # its time was over: it goes from the file too
    file.close()

    file = AnswerFile(path)
    restored = file.restored()
    assert [answer.request_id for answer in restored] == ["q2", "q3"]
    assert restored[0] == KeptAnswer("a", "q2", b"\x02", completion("ä2"), 1003.0)
    again = KeptAnswers(1, 10, 60.0, clock=clock, store=file, restored=restored)
    assert held(again, "a", 4) == [3]  # smaller bounds hold at once
    file.close()
    file = AnswerFile(path)
    assert [answer.request_id for answer in file.restored()] == ["q3"]
    file.close()


@pytest.mark.parametrize("version", [1, 2])
async def test_a_file_of_a_version_before_is_read_and_goes_on(tmp_path: Path, version: int) -> None:
    path = tmp_path / "answers.db"
    file = AnswerFile(path)
    await asyncio.wait_for(file.put(KeptAnswer("a", "q0", b"", completion(), 7.0)), PATIENCE_S)
    file.close()
    db = sqlite3.connect(path, isolation_level=None)
    since = {"logprobs": 2, "confidence": 3, "abstained": 3, "guess": 3}
    for column in (name for name, first in since.items() if first > version):
        db.execute(f"ALTER TABLE answer DROP COLUMN {column}")
    db.execute(f"PRAGMA user_version = {version}")
    db.close()

    file = AnswerFile(path)
    (kept,) = file.restored()
    older = completion() if version > 1 else replace(completion(), logprobs=())
    assert kept == KeptAnswer("a", "q0", b"", older, 7.0)
    held_back = replace(completion(), confidence=0.25, abstained=True, guess="left")
    await asyncio.wait_for(file.put(KeptAnswer("a", "q1", b"", held_back, 8.0)), PATIENCE_S)
    file.close()
    file = AnswerFile(path)
    assert [answer.completion for answer in file.restored()] == [older, held_back]
    file.close()


@pytest.mark.parametrize("damage", ["version", "folder"])
def test_a_file_that_cannot_be_used_is_a_clear_error(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "answers.db"
    match damage:
        case "version":
            AnswerFile(path).close()
            db = sqlite3.connect(path)
            db.execute("PRAGMA user_version = 99")
            db.close()
        case "folder":
            path.mkdir()
    with pytest.raises(ConfigurationError, match=r"answers: .*answers\.db"):
        AnswerFile(path)


async def test_what_cannot_be_written_is_counted_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    errors: list[None] = []
    file = AnswerFile(tmp_path / "answers.db", lambda: errors.append(None))
    db = sqlite3.connect(tmp_path / "answers.db", isolation_level=None)
    db.execute("ALTER TABLE answer RENAME TO gone")
    await asyncio.wait_for(file.put(KeptAnswer("a", "q0", b"", completion(), 0.0)), PATIENCE_S)
    assert len(errors) == 1
    db.execute("ALTER TABLE gone RENAME TO answer")
    await asyncio.wait_for(file.put(KeptAnswer("a", "q1", b"", completion(), 0.0)), PATIENCE_S)
    file.close()
    assert db.execute("SELECT request_id FROM answer").fetchall() == [("q1",)]
    db.close()


async def test_a_locked_file_holds_the_first_answer_up_for_a_moment_and_no_other(tmp_path: Path) -> None:
    errors: list[None] = []
    path = tmp_path / "answers.db"
    file = AnswerFile(path, lambda: errors.append(None))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    for number in range(20):
        # With five seconds for each, as SQLite's own patience would have it, this takes minutes.
        async with asyncio.timeout(PATIENCE_S):
            await file.put(KeptAnswer("a", f"q{number}", b"", completion(), float(number)))
    file.forget([("a", "q7")])
    assert len(errors) == 1  # said once for one lock
    other.execute("COMMIT")
    file.close()
    # What was left over was written in its order once the file was free.
    kept = [name for (name,) in other.execute("SELECT request_id FROM answer ORDER BY answered_at_s")]
    assert kept == [f"q{number}" for number in range(20) if number != 7]
    other.close()


@pytest.mark.parametrize("damage", ["page", "all"])
async def test_a_damaged_file_is_put_aside_and_what_can_be_read_goes_on(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "answers.db"
    file = AnswerFile(path)
    for number in range(300):
        await file.put(KeptAnswer("a", f"q{number:03}", b"d" * 32, completion("x" * 100), float(number)))
    file.close()
    content = bytearray(path.read_bytes())
    if damage == "page":
        content[-8192:-4096] = b"\xa5" * 4096
    else:
        content[:] = b"something else" * 1000
    path.write_bytes(content)
    file = AnswerFile(path)
    restored = file.restored()
    assert (tmp_path / "answers.db.damaged-1").read_bytes()[: len(content)] == bytes(content)
    assert "damaged" in caplog.text
    assert (0 < len(restored) < 300) if damage == "page" else restored == []
    assert [answer.answered_at_s for answer in restored] == sorted(
        answer.answered_at_s for answer in restored
    )
    await file.put(KeptAnswer("a", "after", b"", completion(), 1000.0))
    file.close()
    file = AnswerFile(path)
    assert len(file.restored()) == len(restored) + 1
    file.close()


async def test_setting_the_clock_drops_no_answer(tmp_path: Path) -> None:
    boot, wall = FakeClock(), FakeClock()

    def kept() -> tuple[AnswerFile, KeptAnswers]:
        clock = LastingClock(boot_clock=boot, wall_clock=wall, boot_id="this")
        file = AnswerFile(tmp_path / "answers.db", timekeeper=clock)
        return file, KeptAnswers(10, 10, 60.0, clock=clock, store=file, restored=file.restored())

    file, answers = kept()
    fill(answers, "a", 1)
    wall.advance(1_790_000_000.0)
    boot.advance(30.0)
    assert held(answers, "a", 1) == [0]
    file.close()
    file, answers = kept()  # the server starts again, and its clock was set meanwhile
    assert held(answers, "a", 1) == [0]
    boot.advance(30.0)
    assert held(answers, "a", 1) == []
    file.close()


def test_a_crowd_is_let_in_one_after_another_and_told_when() -> None:
    clock = FakeClock()
    arrivals = Arrivals(10.0, 5, clock)
    admitted: list[float] = []
    delays_s: list[float] = []
    waiting = dict.fromkeys(range(100), 1000.0)  # all at once
    while waiting:
        number, clock.now = min(waiting.items(), key=lambda item: (item[1], item[0]))
        try:
            arrivals.admit()
        except AdmissionRefusedError as error:
            delays_s.append(error.retry_delay_s)
            waiting[number] += error.retry_delay_s
        else:
            admitted.append(clock.now)
            del waiting[number]
    assert 0.0 < min(delays_s) <= max(delays_s) <= MAX_DELAY_S
    # Nobody comes in vain for long, and no second takes more than burst and rate together.
    assert admitted[-1] - admitted[0] < 20.0
    assert max(sum(at <= other < at + 1.0 for other in admitted) for at in admitted) <= 15


def test_a_quiet_spell_allows_a_burst_again() -> None:
    clock = FakeClock()
    arrivals = Arrivals(1.0, 3, clock)
    for _ in range(3):
        arrivals.admit()
    with pytest.raises(AdmissionRefusedError):
        arrivals.admit()
    clock.advance(100.0)
    for _ in range(3):
        arrivals.admit()
    with pytest.raises(AdmissionRefusedError):
        arrivals.admit()
