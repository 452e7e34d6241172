"""The outbox on disk: what is in it stays, ends once, is delivered once, and goes only with a word."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from device_agent.errors import ConfigurationError, OutboxDamagedError, OutboxError, OutboxFullError
from device_agent.lasting import LastingClock
from device_agent.outbox.records import Bounds, NewQuestion
from device_agent.outbox.store import HISTORY, Spool
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.clock import FakeClock


def lasting(clock: FakeClock) -> LastingClock:
    """All clocks at once: nothing is set, nothing boots."""
    return LastingClock(boot_clock=clock, wall_clock=clock, boot_id="this")


Open = Callable[..., Spool]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1_750_000_000.0)


@pytest.fixture
def reopen(tmp_path: Path, clock: FakeClock) -> Iterator[Open]:
    """Opens the one outbox, as another process would."""
    opened: list[Spool] = []

    def open_again(**bounds: Any) -> Spool:
        opened.append(Spool(tmp_path / "state" / "outbox.db", Bounds(**bounds), clock=lasting(clock)))
        return opened[-1]

    yield open_again
    for spool in opened:
        spool.close()


def new(request_id: str, source: str = "s", size: int = 3, **more: Any) -> NewQuestion:
    question = pb.Question(request_id=request_id, question_ids=range(1, size + 1))
    return NewQuestion(question, source, f"{request_id}.mp4", "ab" * 32, **more)


def names(spool: Spool, source: str = "s") -> list[tuple[str, str]]:
    return [(delivery.request_id, delivery.outcome) for delivery in spool.deliver(source)]


def test_a_question_is_there_again_for_the_next_process_as_it_was(reopen: Open, clock: FakeClock) -> None:
    assert reopen().put(new("q1", facts={"token_length": 4}))
    (item,) = reopen().waiting(10)
    assert item.question == new("q1").question
    assert (item.source, item.label, item.bundle_hash) == ("s", "q1.mp4", "ab" * 32)
    assert (item.facts, item.created_at_s) == ({"token_length": 4}, clock.now)


def test_questions_wait_in_the_order_of_asking(reopen: Open) -> None:
    spool = reopen()
    for number in range(5):
        spool.put(new(f"q{number}"))
    assert [item.question.request_id for item in spool.waiting(2, without=["q0", "q2"])] == ["q1", "q3"]


def test_outcomes_are_delivered_in_the_order_of_asking_and_once(reopen: Open) -> None:
    spool, other = reopen(), reopen()
    for number in range(3):
        spool.put(new(f"q{number}"))
    spool.put(new("elsewhere", source="t"))
    assert spool.answered("q1", {"answer": "one"})
    assert names(spool) == []  # q0 was asked before
    assert spool.answered("q0", {"answer": "zero"})
    assert [delivery.record["answer"] for delivery in spool.deliver("s")] == ["zero", "one"]
    assert names(spool) == names(other) == []
    assert other.end("q2", "refused", "no")
    assert names(spool) == [("q2", "refused")]
    spool.answered("elsewhere", {"answer": "there"})
    assert names(other, "t") == [("elsewhere", "answered")]


def test_an_answer_counts_once_however_often_it_comes(reopen: Open) -> None:
    spool = reopen()
    spool.put(new("q1"))
    assert spool.answered("q1", {"answer": "first"})
    assert not reopen().answered("q1", {"answer": "again"})
    assert not spool.end("q1", "failed", "too late")
    assert [delivery.record for delivery in spool.deliver("s")] == [{"answer": "first"}]
    assert not spool.answered("q1", {"answer": "after it was delivered"})
    assert not spool.answered("unknown", {"answer": "never asked"})
    assert spool.counts() == {"waiting": 0, "answered": 1}


def test_the_same_question_may_be_put_in_again_and_another_under_its_key_may_not(reopen: Open) -> None:
    spool = reopen()
    spool.put(new("q1"))
    assert spool.put(new("q1"))
    with pytest.raises(ConfigurationError, match="q1"):
        spool.put(new("q1", size=4))
    assert len(spool.waiting(10)) == 1


def test_what_is_answered_waits_to_be_acknowledged_across_processes(reopen: Open) -> None:
    spool = reopen()
    for number in range(3):
        spool.put(new(f"q{number}"))
        spool.answered(f"q{number}", {"answer": "x"})
    spool.put(new("refused"))
    spool.end("refused", "refused", "no")
    assert reopen().unacknowledged(2) == ["q0", "q1"]
    spool.acknowledged(["q0", "q1"])
    spool.deliver("s")
    assert reopen().unacknowledged(10) == ["q2"]


@pytest.mark.parametrize("bound", ["max_questions", "max_bytes"])
def test_for_want_of_room_the_oldest_goes_and_that_is_reported(
    reopen: Open, bound: str, caplog: pytest.LogCaptureFixture
) -> None:
    room = {"max_questions": 3} if bound == "max_questions" else {"max_bytes": 3 * 900}
    spool = reopen(**room)
    for number in range(5):
        assert spool.put(new(f"q{number}", size=300))
    assert [item.question.request_id for item in spool.waiting(10)] == ["q2", "q3", "q4"]
    assert names(spool) == [("q0", "evicted"), ("q1", "evicted")]
    assert spool.counts() == {"waiting": 3, "evicted": 2}
    assert [record.message.split()[2] for record in caplog.records] == ["q0", "q1"]
    assert not spool.answered("q0", {"answer": "it was under way"})
    (entry, _) = [entry for entry in spool.entries(delivered=True) if entry.outcome == "evicted"]
    assert "needed its room" in entry.record["error"]


def test_for_want_of_room_the_newest_goes_where_that_is_chosen(reopen: Open) -> None:
    spool = reopen(max_questions=2, evict="newest")
    assert [spool.put(new(f"q{number}")) for number in range(4)] == [True, True, False, False]
    assert [item.question.request_id for item in spool.waiting(10)] == ["q0", "q1"]
    assert spool.counts() == {"waiting": 2, "evicted": 2}
    for request_id in ("q0", "q1"):
        spool.answered(request_id, {"answer": "x"})
    assert [outcome for _, outcome in names(spool)] == ["answered", "answered", "evicted", "evicted"]


def test_a_question_larger_than_all_room_goes_alone(reopen: Open) -> None:
    spool = reopen(max_bytes=1000)
    spool.put(new("small"))
    assert not spool.put(new("large", size=2000))
    # The oldest made what room it could.
    assert names(spool) == [("small", "evicted"), ("large", "evicted")]


def test_a_question_lives_as_long_as_it_may(
    reopen: Open, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    spool = reopen(ttl_s=60.0)
    spool.put(new("old"))
    clock.now += 30.0
    spool.put(new("young"))
    assert spool.expire() == 0
    clock.now += 30.0
    assert spool.expire() == 1
    assert spool.still_waiting(["old", "young"]) == {"young"}
    assert names(spool) == [("old", "expired")]
    assert "time to live of 60 s" in caplog.text
    clock.now += 30.0
    spool.put(new("new"))  # looks as well
    assert [item.question.request_id for item in spool.waiting(10)] == ["new"]
    assert spool.counts() == {"waiting": 1, "expired": 2}


def test_a_full_disk_is_named_nothing_changes_and_space_mends_it(reopen: Open) -> None:
    spool = reopen()
    spool.put(new("q1"))
    (pages,) = spool._db.execute("PRAGMA page_count").fetchone()
    spool._db.execute(f"PRAGMA max_page_count = {pages}")  # what SQLite says then is SQLITE_FULL
    with pytest.raises(OutboxFullError, match="free space on its disk"):
        spool.put(new("q2", size=50_000))
    assert [item.question.request_id for item in spool.waiting(10)] == ["q1"]
    assert spool.counts() == {"waiting": 1}
    spool._db.execute("PRAGMA max_page_count = 100000")
    spool.put(new("q2", size=50_000))
    assert len(spool.waiting(10)) == 2


def test_a_disk_without_space_is_named_too(tmp_path: Path) -> None:
    # A real file system of 256 KiB; only where one may be mounted.
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", small], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("may not mount a small file system")
    try:
        spool = Spool(small / "outbox.db")

        def fill() -> None:
            for number in range(100):
                spool.put(new(f"q{number}", size=5000))

        with pytest.raises(OutboxFullError, match="free space on its disk"):
            fill()
        kept = [item.question.request_id for item in spool.waiting(100)]
        assert kept == [f"q{number}" for number in range(len(kept))]
        assert kept
        subprocess.run(["mount", "-o", "remount,size=4m", small], check=True)
        spool.put(new("after"))
        assert spool.waiting(100)[-1].question.request_id == "after"
        spool.close()
    finally:
        subprocess.run(["umount", small], check=True)


def test_files_count_as_dealt_with_together_with_their_question(reopen: Open) -> None:
    spool = reopen()
    spool.see("s", {"q1.mp4": (1, 1), "before.mp4": (2, 2)})
    spool.put(new("q1", stamp=(10, 20)))
    spool.put_ended("r2", "s", "broken.wav", (5, 6), "refused", "no media")
    spool.see("s", {"q1.mp4": (1, 1)})  # says nothing new
    assert reopen().seen("s") == {"q1.mp4": (10, 20), "before.mp4": (2, 2), "broken.wav": (5, 6)}
    assert reopen().seen("t") == {}
    spool.answered("q1", {"answer": "x"})
    assert names(spool) == [("q1", "answered"), ("r2", "refused")]


def test_dropping_is_reported_like_any_other_end(reopen: Open) -> None:
    spool = reopen()
    for number in range(3):
        spool.put(new(f"q{number}"))
    assert reopen().drop(["q1", "unknown"]) == 1
    assert reopen().drop(None) == 2
    assert names(spool) == [("q0", "removed"), ("q1", "removed"), ("q2", "removed")]


def test_what_was_delivered_is_kept_within_bounds(reopen: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    assert HISTORY >= 1000
    monkeypatch.setattr("device_agent.outbox.store.HISTORY", 3)
    spool = reopen()
    for number in range(6):
        spool.put(new(f"q{number}"))
        spool.answered(f"q{number}", {"answer": "x"})
        if number != 1:
            spool.acknowledged([f"q{number}"])
        spool.deliver("s")
    # q1 is still to be acknowledged.
    assert [entry.request_id for entry in spool.entries(delivered=True)] == ["q1", "q3", "q4", "q5"]
    for number in range(5):
        spool.put(new(f"nobody{number}", source=f"gone{number}"))
        spool.answered(f"nobody{number}", {"answer": "x"})
    spool.put(new("next"))
    assert spool.counts()["unfetched"] == 2
    assert spool.sources() == ["gone2", "gone3", "gone4", "s"]


def test_an_outbox_has_a_key_of_its_own(reopen: Open, tmp_path: Path) -> None:
    another = Spool(tmp_path / "another.db")
    assert reopen().file.device_key == reopen().file.device_key != another.file.device_key
    another.close()


@pytest.mark.parametrize("damage", ["version", "folder"])
def test_a_file_that_is_no_outbox_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "outbox.db"
    match damage:
        case "version":
            Spool(path).close()
            db = sqlite3.connect(path)
            db.execute("PRAGMA user_version = 99")
            db.close()
        case "folder":
            path.mkdir()
    with pytest.raises(OutboxError, match=r"outbox\.db"):
        Spool(path)


def test_a_kill_in_the_middle_loses_nothing_that_was_put_in(tmp_path: Path) -> None:
    """A process that writes as fast as it can, killed; what it had announced is there."""
    path = tmp_path / "outbox.db"
    program = textwrap.dedent("""
        import sys
        from pathlib import Path
        from device_agent.outbox.store import Spool
        from device_agent.lasting import LastingClock
from device_agent.outbox.records import NewQuestion
        from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.clock import FakeClock
        spool = Spool(Path(sys.argv[1]))
        for number in range(100_000):
            question = pb.Question(request_id=f"q{number}", question_ids=[1, 2])
            spool.put(NewQuestion(question, "s", "x", "ab" * 32))
            if number % 3 == 0:
                spool.answered(f"q{number}", {"answer": str(number)})
            print(number, flush=True)
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True, cwd=os.getcwd()
    )
    assert process.stdout is not None
    announced = -1
    with process:
        for line in process.stdout:
            announced = int(line)
            if announced >= 60:
                break
        process.send_signal(signal.SIGKILL)
        for line in process.stdout:
            announced = int(line)
    spool = Spool(path)
    entries = spool.entries()
    assert [entry.request_id for entry in entries] == [f"q{number}" for number in range(len(entries))]
    assert announced + 1 <= len(entries) <= announced + 2
    for entry in entries[: announced + 1]:
        assert entry.state == ("ended" if entry.number % 3 == 1 else "waiting")
    spool.close()


def test_setting_the_clock_ends_no_question(tmp_path: Path) -> None:
    boot, wall = FakeClock(1_750_000_000.0), FakeClock(1_750_000_000.0)
    wall.now = 30.0  # 1970: nobody has told the device the time yet

    def opened() -> Spool:
        clock = LastingClock(boot_clock=boot, wall_clock=wall, boot_id="this")
        return Spool(tmp_path / "outbox.db", Bounds(ttl_s=60.0), clock=clock)

    spool = opened()
    spool.put(new("q1"))
    boot.now, wall.now = boot.now + 15.0, 1_790_000_000.0
    another = opened()
    for each in (spool, another):
        assert each.expire() == 0
        # When it was asked is told by the clock as it is set now.
        assert each.entries()[0].created_at_s == pytest.approx(wall.now - 15.0)
    boot.now += 45.0
    assert another.expire() == 1
    for each in (spool, another):
        each.close()


def test_what_an_earlier_version_kept_without_a_clock_that_was_set_gets_its_time_anew(
    reopen: Open, clock: FakeClock
) -> None:
    spool = reopen(ttl_s=60.0)
    spool.put(new("q1"))
    spool._db.execute("UPDATE question SET created_at_s = 17.0")
    spool._db.execute("DELETE FROM about WHERE name = 'clock'")
    later = reopen(ttl_s=60.0)
    assert later.expire() == 0
    clock.now += 60.0
    assert later.expire() == 1


def test_a_name_that_is_no_unicode_is_kept_as_it_is(reopen: Open) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    source = f"watch /media/{name}"
    question = pb.Question(request_id="q1", question_ids=[1])
    reopen().put(NewQuestion(question, source, name, "ab" * 32, stamp=(1, 2)))
    assert reopen().seen(source) == {name: (1, 2)}
    assert reopen().sources() == [source]
    (waiting,) = reopen().waiting(1)
    assert (waiting.source, waiting.label) == (source, name)
    reopen().answered("q1", {"answer": "x"})
    (delivery,) = reopen().deliver(source)
    assert (delivery.source, delivery.label) == (source, name)
    assert [entry.label for entry in reopen().entries(delivered=True)] == [name]


@pytest.mark.parametrize("column", ["message", "facts"])
def test_a_damaged_row_fails_alone(reopen: Open, column: str) -> None:
    spool = reopen()
    for number in range(3):
        spool.put(new(f"q{number}"))
    damaged = {"message": b"\x01\x02", "facts": "{"}[column]
    spool._db.execute(f"UPDATE question SET {column} = ? WHERE request_id = 'q1'", (damaged,))
    assert [item.question.request_id for item in spool.waiting(3)] == ["q0", "q2"]
    for request_id in ("q0", "q2"):
        spool.answered(request_id, {"answer": "x"})
    spool._db.execute("UPDATE question SET record = 'no json' WHERE request_id = 'q2'")
    outcomes = {delivery.request_id: (delivery.outcome, delivery.record) for delivery in spool.deliver("s")}
    assert outcomes["q0"] == ("answered", {"answer": "x"})
    for request_id in ("q1", "q2"):
        assert "damaged" in outcomes[request_id][1]["error"]


def filled(path: Path, count: int) -> str:
    """An outbox with so many questions that wait, closed; its key."""
    spool = Spool(path)
    for number in range(count):
        spool.put(new(f"q{number}", size=200, stamp=(number, 1)))
    key = spool.file.device_key
    spool.close()
    return key


@pytest.mark.parametrize("damage", ["page", "header", "all", "cut"])
def test_a_damaged_outbox_is_put_aside_and_what_can_be_read_goes_on(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "outbox.db"
    key = filled(path, 200)
    content = bytearray(path.read_bytes())
    match damage:
        case "page":  # in the middle: rows before and behind it can be read
            middle = len(content) // 2 // 4096 * 4096
            content[middle : middle + 4096] = b"\xa5" * 4096
        case "header":
            content[:100] = bytes(100)
        case "all":
            content[:] = b"something else" * 1000
        case "cut":
            del content[len(content) // 2 :]
    path.write_bytes(content)
    spool = Spool(path)
    aside = tmp_path / "outbox.db.damaged-1"
    assert aside.read_bytes()[-4096:] == bytes(content[-4096:])
    (said,) = [record.getMessage() for record in caplog.records]
    assert str(aside) in said
    waiting = [item.question.request_id for item in spool.waiting(200)]
    if damage == "page":
        assert spool.file.device_key == key
        assert waiting[0] == "q0"
        assert waiting[-1] == "q199"
        assert 150 <= len(waiting) < 200
        assert waiting == sorted(waiting, key=lambda name: int(name[1:]))
    spool.put(new("after"))
    assert spool.waiting(300)[-1].question.request_id == "after"
    spool.close()
    # Said and done once.
    caplog.clear()
    again = Spool(path)
    assert again.waiting(300)[-1].question.request_id == "after"
    again.close()
    assert not caplog.records
    assert not (tmp_path / "outbox.db.damaged-2").exists()


def test_damage_that_no_look_at_opening_finds_is_mended_at_the_next(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    filled(path, 5)
    spool = Spool(path)

    def fails(sql: str, parameters: object = ()) -> None:
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error

    with pytest.raises(OutboxDamagedError, match="damaged"), spool.file.reading():
        fails("SELECT 1")
    spool.close()
    mended = Spool(path)
    assert len(mended.waiting(10)) == 5
    assert (tmp_path / "outbox.db.damaged-1").exists()
    mended.close()


@pytest.mark.parametrize("fetched", [True, False])
@pytest.mark.parametrize("text", ["B", "\U0001f3b8"])
def test_answers_as_long_as_a_server_likes_do_not_fill_the_outbox(
    reopen: Open, tmp_path: Path, fetched: bool, text: str
) -> None:
    spool = reopen(max_bytes=2**20)
    for number in range(60):
        spool.put(new(f"q{number}"))
        assert spool.answered(f"q{number}", {"answer": text * 600_000, "probability": 0.5})
        if fetched:
            (delivery,) = spool.deliver("s")
            assert delivery.record["answer"].endswith("[cut: 600000 characters]")
            assert delivery.record["probability"] == 0.5
    assert (tmp_path / "state" / "outbox.db").stat().st_size < 2 * 2**20
    kept = spool.entries(delivered=True)
    assert kept[-1].request_id == "q59"  # the newest stay
    counts = spool.counts()
    assert counts["answered"] == 60
    assert counts.get("unfetched", 0) == (0 if fetched else 60 - len(kept))
    assert spool.put(new("next"))


def test_an_answer_of_usual_length_is_kept_whole_in_the_smallest_outbox(reopen: Open) -> None:
    spool = reopen(max_bytes=2**16)
    spool.put(new("q"))
    spool.answered("q", {"answer": "x" * 1000})
    assert [delivery.record for delivery in spool.deliver("s")] == [{"answer": "x" * 1000}]
