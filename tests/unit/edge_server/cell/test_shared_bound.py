"""What is held for somebody, and what others still have of it."""

from __future__ import annotations

import pytest

from edge_server.cell import SharedBound, share_of
from edge_server.errors import AdmissionRefusedError


@pytest.fixture
def bound() -> SharedBound:
    return SharedBound("bytes", in_all=100, of_one=60, reason="held_bytes", retry_delay_s=2.0)


def test_one_has_a_share_and_others_the_rest(bound: SharedBound) -> None:
    bound.take("a", 60)
    with pytest.raises(AdmissionRefusedError, match="60 bytes are held for a, at most 60 may be") as refused:
        bound.take("a")
    assert (refused.value.reason, refused.value.retry_delay_s) == ("held_bytes", 2.0)
    bound.take("b", 40)
    with pytest.raises(AdmissionRefusedError, match="100 bytes are held, at most 100 may be"):
        bound.take("c")
    assert (bound.held, bound.held_by("a"), bound.held_by("c")) == (100, 60, 0)
    bound.give("a", 60)
    bound.take("c", 60)
    assert bound.held_by("a") == 0


def test_a_hold_grows_and_ends_once(bound: SharedBound) -> None:
    with bound.hold("a", 10) as hold:
        hold.add(20)
        with pytest.raises(AdmissionRefusedError):
            hold.add(31)
        assert bound.held_by("a") == 30
        hold.release()
        hold.release()
        assert bound.held == 0
        hold.add(5)
    assert bound.held == 0


def test_a_share_is_at_least_one() -> None:
    assert [share_of(1, 0.5), share_of(3, 0.5), share_of(10, 1.0), share_of(100, 0.001)] == [1, 2, 10, 1]
