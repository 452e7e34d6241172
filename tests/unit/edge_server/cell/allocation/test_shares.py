"""Budgets in proportion, with floors and bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_server.cell.allocation import Budget
from edge_server.cell.allocation.shares import share_power, share_with_floors, water_level

positive = st.floats(1e-3, 1e3)


def test_without_floors_shares_are_in_proportion() -> None:
    assert share_with_floors(np.array([1.0, 3.0]), np.zeros(2), 8.0) == pytest.approx([2.0, 6.0])


def test_a_floor_takes_from_the_others_in_proportion() -> None:
    shares = share_with_floors(np.array([1.0, 1.0, 2.0]), np.array([6.0, 0.0, 0.0]), 9.0)
    assert shares == pytest.approx([6.0, 1.0, 2.0])


@given(st.lists(st.tuples(positive, st.floats(0.0, 1.0)), min_size=1, max_size=8), positive)
def test_shares_with_floors_add_up(pairs: list[tuple[float, float]], total: float) -> None:
    weight_K, part_K = np.array(pairs).T
    floor_K = total * part_K / max(1.0, part_K.sum())
    shares_K = share_with_floors(weight_K, floor_K, total)
    assert shares_K.sum() == pytest.approx(total)
    assert (shares_K >= floor_K).all()
    free = shares_K > floor_K * (1 + 1e-9)
    level_K = shares_K[free] / weight_K[free]
    assert level_K == pytest.approx(np.full(len(level_K), level_K.max(initial=0.0)))


def test_power_beyond_a_users_bound_goes_to_the_others() -> None:
    assert share_power(np.array([8.0, 1.0, 1.0]), Budget(1.0, 4.0, 2.0)) == pytest.approx([2.0, 1.0, 1.0])


def test_with_bounds_of_users_alone_everybody_has_all_of_it() -> None:
    assert share_power(np.array([1.0, 9.0]), Budget(1.0, None, 2.0)) == pytest.approx([2.0, 2.0])
    assert share_power(np.array([1.0, 9.0]), Budget(1.0, 5.0, 2.0)) == pytest.approx([2.0, 2.0])


def test_water_stands_at_one_level() -> None:
    assert water_level(np.array([1.0, 2.0, 9.0]), 5.0, np.inf) == pytest.approx([3.0, 2.0, 0.0])
    assert water_level(np.array([1.0, 2.0, 9.0]), 5.0, 2.5) == pytest.approx([2.5, 2.5, 0.0])
    assert water_level(np.array([1.0, 2.0]), 9.0, 2.0) == pytest.approx([2.0, 2.0])
