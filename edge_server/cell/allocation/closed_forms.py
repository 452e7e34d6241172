"""Policies that one formula gives. Where a deadline needs more bandwidth than that, it gets it."""

from __future__ import annotations

import math

import numpy as np

from edge_server.cell.allocation.cost import (
    bandwidth_floor,
    best_lengths,
    check_feasible,
    cost_of,
    nearest_lengths,
)
from edge_server.cell.allocation.problem import Allocation, Floats, Problem
from edge_server.cell.allocation.shares import share_power, share_with_floors, water_level

#: Water-filling leaves weak links dry, but a question without power has no answer: everybody has this part
#: of an equal share.
_DRY = 1e-3


def bandwidth_shares(problem: Problem, weight_K: Floats) -> Floats:
    """All bandwidth in proportion to the weights, with what the deadlines need [Hz].

    Raises:
        InfeasibleError: the deadlines cannot be met.
    """
    check_feasible(problem)
    return share_with_floors(weight_K, bandwidth_floor(problem), problem.budget.bandwidth_hz)


class Equal:
    """The same bandwidth, power and token length for all; of the lengths, the one that costs least.

    A user whose deadline, or bundle, does not allow that length has the nearest one that they do.
    """

    name = "equal"

    def allocate(self, problem: Problem) -> Allocation:
        """See :class:`~edge_server.cell.allocation.policy.Policy`."""
        lengths = sorted({length for user in problem.users for length in user.token_lengths})
        return min(
            (_equal(problem, length, self.name) for length in lengths),
            key=lambda allocation: cost_of(problem, allocation),
        )


class Fixed:
    """The same bandwidth and power for all, and one token length whatever the links are.

    Args:
        token_length: for all; a user whose deadline or bundle does not allow it has the nearest that they do.
    """

    name = "fixed"

    def __init__(self, token_length: int = 16) -> None:
        self.token_length = token_length

    def allocate(self, problem: Problem) -> Allocation:
        """See :class:`~edge_server.cell.allocation.policy.Policy`."""
        return _equal(problem, self.token_length, self.name)


class ProportionalFair:
    """Greatest sum of w_k log(B_k log2(1 + gamma_k)) at one power per hertz: B_k in proportion to w_k.

    With one power per hertz gamma_k does not depend on B_k. Each user's length is its cheapest.
    """

    name = "proportional_fair"

    def allocate(self, problem: Problem) -> Allocation:
        """See :class:`~edge_server.cell.allocation.policy.Policy`."""
        bandwidth_K = bandwidth_shares(problem, problem.arrays.weight_K)
        return _with_best_lengths(problem, bandwidth_K, share_power(bandwidth_K, problem.budget), self.name)


class MaxMin:
    """The worst airtime per token and the worst SNR are as good as they can be.

    Bandwidth in proportion to symbols per token; then power in proportion to B_k / g_k, which makes all SNRs
    the same as far as each user's bound on power lets it. Each user's length is its cheapest.
    """

    name = "max_min"

    def allocate(self, problem: Problem) -> Allocation:
        """See :class:`~edge_server.cell.allocation.policy.Policy`."""
        bandwidth_K = bandwidth_shares(problem, problem.arrays.symbols_K)
        power_K = share_power(bandwidth_K / problem.arrays.gain_K, problem.budget)
        return _with_best_lengths(problem, bandwidth_K, power_K, self.name)


class WaterFilling:
    """Greatest sum of rates B_k log2(1 + gamma_k) at equal B_k: P_k = B_k (level - N0 / g_k), from 0 up.

    A thousandth of an equal share of the power goes to everybody first. Each user's length is its cheapest.
    """

    name = "water_filling"

    def allocate(self, problem: Problem) -> Allocation:
        """See :class:`~edge_server.cell.allocation.policy.Policy`."""
        budget, users = problem.budget, len(problem.users)
        # Bandwidths that deadlines have made unequal are treated as equal: the level is then one in watts.
        bandwidth_K = bandwidth_shares(problem, np.ones(users))
        dry_w = _DRY * budget.greatest_power_w(users) / users
        power_w = math.inf if budget.power_w is None else budget.power_w - users * dry_w
        most_w = math.inf if budget.user_power_w is None else budget.user_power_w - dry_w
        height_K = budget.noise_w_per_hz * bandwidth_K / problem.arrays.gain_K
        power_K = dry_w + water_level(height_K, power_w, most_w)
        return _with_best_lengths(problem, bandwidth_K, power_K, self.name)


def _equal(problem: Problem, token_length: int, name: str) -> Allocation:
    ones_K = np.ones(len(problem.users))
    bandwidth_K = bandwidth_shares(problem, ones_K)
    power_K = share_power(ones_K, problem.budget)
    return Allocation(
        bandwidth_K, power_K, nearest_lengths(problem, bandwidth_K, power_K, token_length), name
    )


def _with_best_lengths(problem: Problem, bandwidth_K: Floats, power_K: Floats, name: str) -> Allocation:
    return Allocation(bandwidth_K, power_K, best_lengths(problem, bandwidth_K, power_K), name)
