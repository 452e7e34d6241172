"""What devices tell of themselves is counted only as far as it can be."""

from __future__ import annotations

import math

import pytest

from edge_server.frontdoor.questions import MAX_AIRTIME_S, told_airtime_s


@pytest.mark.parametrize(
    ("told", "counted"),
    [
        (0.0005, 0.0005),
        (-1.0, 0.0),
        (math.nan, 0.0),
        (math.inf, 0.0),
        (-math.inf, 0.0),
        (1e300, MAX_AIRTIME_S),
    ],
)
def test_a_device_moves_no_counter_by_more_than_an_hour(told: float, counted: float) -> None:
    assert told_airtime_s(told) == counted
