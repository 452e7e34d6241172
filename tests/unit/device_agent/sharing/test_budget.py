"""How many bytes go out within an hour."""

from __future__ import annotations

from device_agent.sharing.budget import HOUR_S, Budget
from tests.clock import FakeClock


def test_what_waited_counts_from_when_it_went_out() -> None:
    clock = FakeClock()
    budget = Budget(100, clock)
    budget.spend(60)
    clock.advance(600.0)
    budget.postpone()
    budget.spend(40)
    assert not budget.allows(1)
    clock.advance(HOUR_S - 300.0)
    assert not budget.allows(1)  # an hour after it was counted, not after it went out
    clock.advance(310.0)
    assert budget.allows(60)
    assert budget.allows(100)
