"""Accounts that several processes count in: what one counts, the others see."""

from __future__ import annotations

import hashlib
import multiprocessing
from pathlib import Path

import pytest

from edge_server.cell import LimitConfig, Limits, Peer
from edge_server.cell.shared_accounts import SharedAccounts, make_shared_accounts
from edge_server.errors import AdmissionRefusedError
from tests.clock import FakeClock

CAMERA, CAR = Peer("camera", "1"), Peer("car", "2")
CONFIG = LimitConfig(questions_per_minute=60, bytes_per_minute=6000, max_streams=3)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    make_shared_accounts(tmp_path / "accounts")
    return tmp_path / "accounts"


def limits(table: Path, door: int, clock: FakeClock) -> Limits:
    return Limits(CONFIG, clock, SharedAccounts(table, door, CONFIG.rates, clock))


def bucket_of(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=16).digest()[:4], "little") % 4096


def count(table: Path, door: int, times: int) -> None:
    """A process of its own."""
    here = limits(table, door, FakeClock())
    for _ in range(times):
        here.spend(CAMERA, size_bytes=1)


def test_what_is_asked_at_one_door_counts_at_the_other(table: Path) -> None:
    clock = FakeClock()
    first, second = limits(table, 0, clock), limits(table, 1, clock)
    for door in (first, second) * 30:
        door.spend(CAMERA, questions=1)
    with pytest.raises(AdmissionRefusedError) as error:
        second.spend(CAMERA, questions=1)
    assert error.value.retry_delay_s == pytest.approx(1.0)
    second.spend(CAR, questions=1)
    clock.advance(1.0)
    first.spend(CAMERA, questions=1)


def test_streams_are_bounded_over_all_doors_and_those_of_a_dead_door_end(table: Path) -> None:
    clock = FakeClock()
    first, second = limits(table, 0, clock), limits(table, 1, clock)
    with first.stream(CAMERA), second.stream(CAMERA):
        held = second.stream(CAMERA)
        with pytest.raises(AdmissionRefusedError, match="holds 3 streams"):
            first.stream(CAMERA)
        # Another process is the second door: what the one before it held is held no more.
        limits(table, 1, clock)
        with first.stream(CAMERA), first.stream(CAMERA):
            pass
    del held


def test_processes_that_count_at_once_lose_nothing(table: Path) -> None:
    context, clock = multiprocessing.get_context("fork"), FakeClock()
    processes = [context.Process(target=count, args=(table, door, 1000)) for door in (1, 2, 3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    with SharedAccounts(table, 0, CONFIG.rates, clock).of(CAMERA.name) as account:
        assert account.bytes.wait_s(3000, clock()) == 0.0
        assert account.bytes.wait_s(3001, clock()) > 0.0


def test_a_full_bucket_forgets_who_was_counted_longest_ago(table: Path) -> None:
    clock = FakeClock()
    here = limits(table, 0, clock)
    names = [name for name in map("peer-{}".format, range(80_000)) if bucket_of(name) == 0][:9]
    for name in names:
        here.spend(Peer(name, ""), questions=60)
        clock.advance(0.01)
    for name in names[1:]:
        with pytest.raises(AdmissionRefusedError):
            here.spend(Peer(name, ""), questions=1)
    here.spend(Peer(names[0], ""), questions=60)
