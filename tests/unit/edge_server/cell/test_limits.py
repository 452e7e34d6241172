from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edge_server.cell import LimitConfig, Limits, Peer
from edge_server.cell.accounts import LocalAccounts
from edge_server.cell.token_bucket import TokenBucket
from edge_server.errors import AdmissionRefusedError
from tests.clock import FakeClock

CAMERA, CAR = Peer("camera", "1"), Peer("car", "2")


def refused(limits: Limits, peer: Peer, **spent: int) -> AdmissionRefusedError:
    with pytest.raises(AdmissionRefusedError) as error:
        limits.spend(peer, **spent)
    return error.value


def test_questions_per_minute_come_back_with_time_and_belong_to_one_peer() -> None:
    clock = FakeClock()
    limits = Limits(LimitConfig(questions_per_minute=60), clock)
    for _ in range(60):
        limits.spend(CAMERA, questions=1)
    error = refused(limits, CAMERA, questions=1)
    assert error.reason == "question_rate"
    assert error.retry_delay_s == pytest.approx(1.0)
    limits.spend(CAR, questions=1)
    clock.advance(error.retry_delay_s)
    limits.spend(CAMERA, questions=1)
    assert refused(limits, CAMERA, questions=1).reason == "question_rate"


def test_bytes_are_bounded_and_a_refusal_costs_nothing() -> None:
    clock = FakeClock()
    limits = Limits(LimitConfig(questions_per_minute=2, bytes_per_minute=6000), clock)
    limits.spend(CAMERA, questions=1, size_bytes=6000)
    for _ in range(5):
        assert refused(limits, CAMERA, questions=1, size_bytes=100).reason == "byte_rate"
    clock.advance(1.0)
    limits.spend(CAMERA, questions=1, size_bytes=100)


def test_one_that_is_larger_than_a_minutes_worth_passes_once_and_is_paid_for() -> None:
    clock = FakeClock()
    limits = Limits(LimitConfig(bytes_per_minute=6000), clock)
    limits.spend(CAMERA, size_bytes=12_000)
    assert refused(limits, CAMERA, size_bytes=1).retry_delay_s == pytest.approx(60.0, abs=0.1)


def test_streams_are_bounded_while_they_are_open() -> None:
    limits = Limits(LimitConfig(max_streams=1), FakeClock())
    with limits.stream(CAMERA):
        with pytest.raises(AdmissionRefusedError) as error, limits.stream(CAMERA):
            pass
        assert error.value.reason == "streams"
        with limits.stream(CAR):
            pass
    with limits.stream(CAMERA):
        pass


def test_nobody_is_not_counted() -> None:
    clock = FakeClock()
    accounts = LocalAccounts(LimitConfig().rates, clock)
    limits = Limits(LimitConfig(questions_per_minute=1), clock, accounts)
    for _ in range(10):
        limits.spend(None, questions=1)
    with limits.stream(None), limits.stream(None):
        assert len(accounts) == 0


def test_peers_that_went_away_are_forgotten() -> None:
    clock = FakeClock()
    accounts = LocalAccounts(LimitConfig().rates, clock)
    limits = Limits(LimitConfig(), clock, accounts)
    for number in range(100):
        limits.spend(Peer(str(number), ""), questions=1)
    clock.advance(120.0)
    limits.spend(CAMERA, questions=1)
    assert len(accounts) == 1


@pytest.mark.parametrize("setting", ["questions_per_minute", "bytes_per_minute", "max_streams"])
def test_bounds_have_to_be_positive(setting: str) -> None:
    with pytest.raises(ValidationError, match=setting):
        LimitConfig(**{setting: 0})


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 5)), max_size=60))
def test_no_more_is_taken_than_a_full_bucket_and_what_flowed_in(steps: list[tuple[float, float]]) -> None:
    bucket, now_s, taken = TokenBucket(10.0, 2.0, 0.0), 0.0, 0.0
    for pause_s, amount in steps:
        now_s += pause_s
        if bucket.wait_s(amount, now_s) == 0.0:
            bucket.take(amount, now_s)
            taken += amount
    assert taken <= 10.0 + 2.0 * now_s + 1e-6
