"""A deadline that passes says what was too slow for it."""

from __future__ import annotations

import contextlib

import pytest

from device_agent.deadline import Deadline, Doing
from device_agent.errors import DeadlineError, TooSlowError
from tests.clock import FakeClock

NO_ANSWER = "no answer from edge:50051"


def cut_short(deadline: Deadline, doing: Doing, clock: FakeClock) -> None:
    """The deadline ends what is under way."""
    with contextlib.suppress(TimeoutError), deadline.during(doing):
        clock.advance(deadline.left_s)
        raise TimeoutError


def test_a_server_that_was_asked_and_does_not_answer_is_named() -> None:
    clock = FakeClock()
    deadline = Deadline(2.0, clock=clock)
    with deadline.during("encoding"):
        clock.advance(0.5)
    assert deadline.left_s == pytest.approx(1.5)
    clock.advance(5.0)
    assert deadline.left_s == 0.0
    said = deadline.passed(NO_ANSWER)
    assert isinstance(said, DeadlineError)
    assert (str(said), said.exit_code, deadline.late_s) == (NO_ANSWER, 7, None)


@pytest.mark.parametrize("doing", ["encoding", "sending"])
def test_a_device_that_is_too_slow_is_named_and_not_the_server(doing: Doing) -> None:
    clock = FakeClock()
    deadline = Deadline(2.0, encode_s=0.25, clock=clock)
    cut_short(deadline, doing, clock)
    said = deadline.passed(NO_ANSWER)
    assert isinstance(said, TooSlowError)
    assert (str(said), said.exit_code) == (f"{doing} takes longer than 2 s (deadline_s)", 5)
    assert deadline.late_s == (2.0 if doing == "encoding" else 0.25)


def test_what_had_little_of_the_deadline_is_not_said_to_take_all_of_it() -> None:
    clock = FakeClock()
    deadline = Deadline(2.0, clock=clock)
    clock.advance(1.5)  # until it was let in
    cut_short(deadline, "encoding", clock)
    assert str(deadline.passed(NO_ANSWER)) == (
        "encoding takes longer than the 0.5 s that were left of 2 s (deadline_s)"
    )
    assert deadline.late_s is None, "how long it takes is not known"


def test_what_the_tokens_took_is_known_when_sending_them_takes_too_long() -> None:
    clock = FakeClock()
    deadline = Deadline(2.0, clock=clock)
    with deadline.during("encoding"):
        clock.advance(0.75)
    cut_short(deadline, "sending", clock)
    assert deadline.late_s == pytest.approx(0.75)
