"""Bandwidth in parts of a grid, the best of all ways to share them out: whatever the loss is like.

Where each user has its own bound on power, and energy costs nothing, everybody sends with all of it: a loss
does not rise with SNR. What is left is who has which part of the bandwidth. Users meet in one sum, so dynamic
programming over the parts finds the global optimum of the grid; a finer grid finds a little less.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from edge_server.cell.allocation.cost import best_lengths, costs
from edge_server.cell.allocation.problem import Allocation, InfeasibleError, Problem


def shares_only_bandwidth(problem: Problem) -> bool:
    """Whether everybody sends with all the power that it may."""
    budget = problem.budget
    return budget.user_power_w is not None and budget.power_w is None and not problem.objective.energy_price


def best_on_grid(problem: Problem, steps: int) -> Allocation:
    """The optimum where every user has a whole number of parts, at least one.

    Args:
        problem: one that :func:`shares_only_bandwidth`.
        steps: parts that the bandwidth is cut into.

    Raises:
        ValueError: the problem is another, or there are more users than parts.
        InfeasibleError: no whole numbers of parts keep every deadline.
    """
    users, most_w = len(problem.users), problem.budget.user_power_w
    if most_w is None or not shares_only_bandwidth(problem):
        raise ValueError("problem: power is shared or has a price, and only bandwidth is looked at")
    if users > steps:
        raise ValueError(f"steps: at least one for each of {users} users, not {steps}")
    power_K = np.full(users, most_w)
    part_hz = problem.budget.bandwidth_hz / steps
    parts = np.arange(1, steps + 1)
    cost_PK = np.stack(
        [costs(problem, np.full(users, part * part_hz), power_K).min(axis=1) for part in parts]
    )
    # Of the users so far: the least cost with so many parts in all, and how many the last of them has then.
    best_P = np.full(steps + 1, np.inf)
    best_P[0] = 0.0
    has_KP = np.zeros((users, steps + 1), np.int64)
    for k in range(users):
        # Row p, column j: what those before cost with p - part in all, where part is steps - j.
        before_PP = sliding_window_view(np.concatenate([np.full(steps, np.inf), best_P]), steps)[: steps + 1]
        with_PP = before_PP + cost_PK[::-1, k]
        column_P = with_PP.argmin(axis=1)
        has_KP[k] = steps - column_P
        best_P = with_PP[np.arange(steps + 1), column_P]
    left = int(np.argmin(best_P))
    if np.isinf(best_P[left]):
        raise InfeasibleError(f"users: {steps} parts of the bandwidth are too coarse for their deadlines")
    held_K = np.zeros(users)
    for k in reversed(range(users)):
        held_K[k] = has_KP[k, left]
        left -= int(held_K[k])
    bandwidth_K = np.maximum(held_K, 1.0) * part_hz
    return Allocation(bandwidth_K, power_K, best_lengths(problem, bandwidth_K, power_K), "grid")
