"""What an allocation costs, whether it is allowed, and the best token lengths of given bandwidths and powers.

Given bandwidth and power the users no longer meet, so each one's length is found by looking at all of them.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edge_server.cell.allocation.problem import TOLERANCE, Allocation, Floats, InfeasibleError, Problem


def costs(problem: Problem, bandwidth_K: Floats, power_K: Floats) -> Floats:
    """Each user's part of the objective at each of its lengths, (K, L); infinite past its deadline."""
    objective = problem.objective
    latency_KL = (problem.arrays.symbols_K / bandwidth_K)[
        :, None
    ] * problem.arrays.length_KL + problem.arrays.encode_KL
    loss_KL = problem.loss.at(snrs(problem, bandwidth_K, power_K)[:, None], problem.arrays.length_KL)
    omega = objective.latency_weight
    each_KL = omega * latency_KL / objective.reference_s + (1.0 - omega) * loss_KL
    cost_KL = (
        problem.arrays.weight_K[:, None] * each_KL + objective.energy_price * power_K[:, None] * latency_KL
    )
    kept_KL = (
        latency_KL <= (problem.arrays.deadline_K * (1.0 + TOLERANCE))[:, None]
    )  # not a number is no length
    return np.where(kept_KL, cost_KL, np.inf)


def snrs(problem: Problem, bandwidth_K: Floats, power_K: Floats) -> Floats:
    """gamma_k of each user, linear."""
    return np.asarray(power_K * problem.arrays.gain_K / (problem.budget.noise_w_per_hz * bandwidth_K))


def cost_of(problem: Problem, allocation: Allocation) -> float:
    """The objective; infinite where a user misses its deadline.

    Raises:
        ValueError: a user is given a length that it does not have.
    """
    cost_KL = costs(problem, allocation.bandwidth_K, allocation.power_K)
    return float(sum(cost_KL[k, column] for k, column in enumerate(columns(problem, allocation.length_K))))


def columns(problem: Problem, length_K: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each user's length stands among its lengths.

    Raises:
        ValueError: a user is given a length that it does not have.
    """
    same_KL = problem.arrays.length_KL == length_K[:, None]
    if not same_KL.any(axis=1).all():
        k = int(np.argmin(same_KL.any(axis=1)))
        raise ValueError(
            f"users[{k}]: has no token length {length_K[k]}, only {problem.users[k].token_lengths}"
        )
    return np.asarray(np.argmax(same_KL, axis=1))


def at_columns(problem: Problem, column_K: NDArray[np.int64]) -> tuple[NDArray[np.int64], Floats]:
    """Token length, and time to make the tokens [s], of each user's column."""
    rows = np.arange(len(column_K))
    return problem.arrays.length_KL[rows, column_K].astype(np.int64), problem.arrays.encode_KL[rows, column_K]


def best_lengths(problem: Problem, bandwidth_K: Floats, power_K: Floats) -> NDArray[np.int64]:
    """Each user's cheapest length in time for its deadline."""
    return at_columns(problem, np.argmin(costs(problem, bandwidth_K, power_K), axis=1))[0]


def nearest_lengths(problem: Problem, bandwidth_K: Floats, power_K: Floats, wanted: int) -> NDArray[np.int64]:
    """Each user's longest length up to ``wanted`` in time for its deadline; else the shortest in time."""
    timely_KL = np.isfinite(costs(problem, bandwidth_K, power_K))
    short_KL = timely_KL & (problem.arrays.length_KL <= wanted)
    last = short_KL.shape[1] - 1
    longest_K = last - np.argmax(short_KL[:, ::-1], axis=1)
    return at_columns(problem, np.where(short_KL.any(axis=1), longest_K, np.argmax(timely_KL, axis=1)))[0]


def bandwidth_floor(problem: Problem, length_K: NDArray[np.int64] | None = None) -> Floats:
    """The least bandwidth by which each user meets its deadline [Hz]; 0 without one.

    Args:
        problem: of users K.
        length_K: at these lengths; by default each user's length that needs least.

    Returns:
        (K,); infinite where no bandwidth is enough.
    """
    left_KL = problem.arrays.deadline_K[:, None] - problem.arrays.encode_KL
    symbols_KL = problem.arrays.symbols_K[:, None] * problem.arrays.length_KL
    with np.errstate(divide="ignore", invalid="ignore"):
        floor_KL = np.where(left_KL > 0.0, symbols_KL / left_KL, np.inf)
    if length_K is not None:
        return np.asarray(floor_KL[np.arange(len(length_K)), columns(problem, length_K)])
    return np.asarray(floor_KL.min(axis=1))


def check_feasible(problem: Problem) -> None:
    """Whether every deadline can be met.

    Raises:
        InfeasibleError: it cannot: tokens take too long to make, or all need more bandwidth than there is.
    """
    floor_K, bandwidth_hz = bandwidth_floor(problem), problem.budget.bandwidth_hz
    for k, floor_hz in enumerate(floor_K):
        if math.isinf(floor_hz):
            raise InfeasibleError(
                f"users[{k}].deadline_s: {problem.users[k].deadline_s:g} s is less than making tokens takes"
            )
    if floor_K.sum() > bandwidth_hz:
        raise InfeasibleError(
            f"users: their deadlines need {floor_K.sum():g} Hz at the least, "
            f"and budget.bandwidth_hz is {bandwidth_hz:g}"
        )


def violations(problem: Problem, allocation: Allocation) -> list[str]:
    """What of the problem's bounds an allocation breaks; empty: nothing."""
    budget, found = problem.budget, []
    most = 1.0 + TOLERANCE
    for name, given_K in (("bandwidth_K", allocation.bandwidth_K), ("power_K", allocation.power_K)):
        if not (np.isfinite(given_K) & (given_K > 0.0)).all():
            found.append(f"{name}: everybody needs a positive one")
    if found:
        return found
    if allocation.bandwidth_K.sum() > budget.bandwidth_hz * most:
        found.append(f"bandwidth_K: {allocation.bandwidth_K.sum():g} of {budget.bandwidth_hz:g} Hz")
    if budget.power_w is not None and allocation.power_K.sum() > budget.power_w * most:
        found.append(f"power_K: {allocation.power_K.sum():g} of {budget.power_w:g} W")
    if budget.user_power_w is not None and allocation.power_K.max() > budget.user_power_w * most:
        found.append(f"power_K: {allocation.power_K.max():g} of {budget.user_power_w:g} W for one user")
    if math.isinf(cost_of(problem, allocation)):
        found.append("length_K: a deadline is missed")
    return found
