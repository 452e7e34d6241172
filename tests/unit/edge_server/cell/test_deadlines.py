"""Which deadlines of single devices a cell can keep together."""

from __future__ import annotations

import math
import random

import pytest

from edge_server.cell.allocation import Budget, LossFit, Problem, User
from edge_server.cell.allocation.cost import bandwidth_floor, check_feasible
from edge_server.cell.deadlines import airtime_left_s, uplink_within_s, with_deadlines
from edge_server.cell.elsewhere import Away

LOSS = LossFit(a=0.05, b=0.3, p=1.2, c=0.02, d=0.9)
NONE = math.inf
TOTAL_HZ = 1000.0


def cell(encode_K: list[float], deadline_s: float | None = None) -> Problem:
    """Users that take 100 Hz for a second's airtime of their shortest block."""
    users = tuple(User(1.0, (1, 2), 100.0, (encode_s,) * 2, deadline_s) for encode_s in encode_K)
    return Problem(users, Budget(TOTAL_HZ, user_power_w=1.0, noise_w_per_hz=1e-3), LOSS)


@pytest.mark.parametrize(
    ("encode_K", "within_K", "kept_K"),
    [
        ([0.0, 0.0], [NONE, NONE], [None, None]),
        # 500 and 500 Hz: all there is.
        ([0.0, 0.0], [0.2, 0.2], [0.2, 0.2]),
        # 800 Hz and half of an equal part, 250, are too much.
        ([0.0, 0.0], [0.125, NONE], [None, None]),
        ([0.0, 0.0], [0.125, 0.2], [None, 0.2]),
        # Without the two that need most, the third's can be kept.
        ([0.0, 0.0, 0.0], [0.1, 0.12, 0.2], [None, None, 0.2]),
        # Nothing is left for sending.
        ([0.3, 0.1], [0.3, 0.3], [None, 0.3]),
        ([0.4, 0.1], [0.3, 0.3], [None, 0.3]),
    ],
)
def test_the_fewest_are_left_out(
    encode_K: list[float], within_K: list[float], kept_K: list[float | None]
) -> None:
    told = sum(not math.isinf(within_s) for within_s in within_K)
    problem, unkept = with_deadlines(cell(encode_K), within_K)
    assert [user.deadline_s for user in problem.users] == kept_K
    assert unkept == told - sum(within_s is not None for within_s in kept_K)


def test_of_two_bounds_the_smaller_holds() -> None:
    problem, unkept = with_deadlines(cell([0.0, 0.0], 0.5), [0.4, 2.0])
    assert [user.deadline_s for user in problem.users] == [0.4, 0.5]
    assert unkept == 0
    # Whoever's own is left out keeps the bound of all.
    problem, unkept = with_deadlines(cell([0.0, 0.0], 0.5), [1e-3, 2.0])
    assert ([user.deadline_s for user in problem.users], unkept) == ([0.5, 0.5], 1)


def test_a_bound_of_all_that_cannot_be_kept_is_for_the_policy_to_tell() -> None:
    problem, unkept = with_deadlines(cell([0.0, 0.0], 1e-3), [1e-4, 2.0])
    assert ([user.deadline_s for user in problem.users], unkept) == ([1e-3, 1e-3], 1)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_devices_tell_the_rest_can_be_kept_and_leaves_something_to_everybody(seed: int) -> None:
    rng = random.Random(seed)
    count = rng.randint(1, 9)
    encode_K = [rng.choice((0.0, 10.0 ** rng.uniform(-3, 2))) for _ in range(count)]
    within_K = [rng.choice((NONE, 10.0 ** rng.uniform(-4, 3))) for _ in range(count)]
    problem, unkept = with_deadlines(cell(encode_K), within_K)
    check_feasible(problem)
    assert unkept <= sum(not math.isinf(within_s) for within_s in within_K)
    floor_K = bandwidth_floor(problem)
    for k in range(count):
        assert floor_K.sum() - floor_K[k] <= TOTAL_HZ * (1.0 - 0.5 / count) * (1.0 + 1e-9)


def test_making_tokens_takes_of_the_uplinks_share() -> None:
    told = Away("id", 10.0, (), 0.0, "ab", deadline_s=2.0, encode_s=0.25)
    assert (uplink_within_s(told, 0.5), airtime_left_s(told, 0.5)) == (1.0, 0.75)
    assert airtime_left_s(told, 0.1) == 0.0
    assert airtime_left_s(told, 0.0) == math.inf
    assert uplink_within_s(Away("id", 10.0, (), 0.0, "ab"), 0.5) == math.inf
