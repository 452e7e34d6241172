"""The program of :mod:`edge_server.cell.allocation.program` by a barrier method of its own, in numpy.

In u = log x and v = log y objective and bounds are convex. Users meet in the two sums alone, so the Hessian
is a 2 x 2 block for each user and one dyad for each sum, and a Newton step takes time in proportion to the
number of users (Sherman, Morrison and Woodbury), where a general solver factors what it takes to be one large
sparse matrix. Method: S. Boyd and L. Vandenberghe, Convex Optimization (2004), chapter 11.3.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_server.cell.allocation.problem import Floats, Problem, SolverError
from edge_server.cell.allocation.program import Program, in_units

#: By how much the barrier gets steeper from one centre to the next.
_STEEPER = 30.0
#: Of the objective, how far the answer may be from the optimum; and the Newton decrement, squared, at which a
#: centre is near enough.
_GAP, _CENTRED = 1e-8, 1e-6
_MOST_STEPS = 400
#: Of a sum's bound, what the start leaves free.
_SLACK = 0.05


class InteriorPointSolver:
    """Implements :class:`~edge_server.cell.allocation.program.Solver`. Holds nothing from call to call.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock

    def solve(
        self, problem: Problem, length_K: NDArray[np.int64], time_limit_s: float
    ) -> tuple[Floats, Floats]:
        """See there."""
        program = Program.of(problem, length_K)
        until_s = self._clock() + time_limit_s
        x_K, y_K = _minimise(program, lambda: self._clock() >= until_s)
        return in_units(problem.budget, x_K, y_K)


@dataclass(eq=False)
class _Step:
    """A Newton step and what it promises."""

    u_K: Floats
    v_K: Floats
    decrement: float


def _minimise(program: Program, late: Callable[[], bool]) -> tuple[Floats, Floats]:
    """From the middle of what is allowed, along the centres, to the optimum."""
    users = len(program.t_K)
    u_K, v_K = _start(program)
    bounds = 3 * users + 1 + program.shared
    weight = bounds / max(program.cost(np.exp(u_K), np.exp(v_K)), 1e-300)
    for _ in range(_MOST_STEPS):
        if late():
            raise SolverError("the solver was late")
        step = _newton(program, weight, u_K, v_K)
        if step.decrement <= _CENTRED:
            if bounds / weight <= _GAP * program.cost(np.exp(u_K), np.exp(v_K)):
                return np.exp(u_K), np.exp(v_K)
            weight *= _STEEPER
            continue
        size, here = 1.0, _barrier(program, weight, u_K, v_K)
        while True:
            after = _barrier(program, weight, u_K + size * step.u_K, v_K + size * step.v_K)
            if after <= here - 0.1 * size * step.decrement:
                break
            size *= 0.5
            if size < 1e-10:
                # Rounding hides what is left to gain at this centre.
                if bounds / weight <= 1e-5 * program.cost(np.exp(u_K), np.exp(v_K)):
                    return np.exp(u_K), np.exp(v_K)
                raise SolverError("the solver found no way down")
        u_K, v_K = u_K + size * step.u_K, v_K + size * step.v_K
    raise SolverError(f"the solver did not end within {_MOST_STEPS} steps")


def _start(program: Program) -> tuple[Floats, Floats]:
    """Inside of every bound: an equal share of what the floors leave, of both."""
    users = len(program.t_K)
    free = 1.0 - program.floor_K.sum()
    if free <= 0.0:
        raise SolverError("the deadlines take all the bandwidth there is")
    x_K = program.floor_K + (1.0 - _SLACK) * free / users
    y = (1.0 - _SLACK) / users if program.shared else 0.5 * program.most
    y = min(max(y, 2.0 * program.least), (1.0 - _SLACK) * program.most)
    return np.log(x_K), np.full(users, np.log(y))


def _barrier(program: Program, weight: float, u_K: Floats, v_K: Floats) -> float:
    """The objective times the weight, and the logarithms of all slacks; infinite outside."""
    with np.errstate(over="ignore", invalid="ignore"):
        x_K, y_K = np.exp(u_K), np.exp(v_K)
        slack_K = [u_K - np.log(program.floor_K), np.log(program.most) - v_K, v_K - np.log(program.least)]
        sums = [1.0 - x_K.sum()] + ([1.0 - y_K.sum()] if program.shared else [])
        if min(sums) <= 0.0 or any(each.min() <= 0.0 for each in slack_K):
            return np.inf
        total = weight * program.cost(x_K, y_K) - sum(float(np.log(each).sum()) for each in slack_K)
    return total - float(np.log(sums).sum())


def _newton(program: Program, weight: float, u_K: Floats, v_K: Floats) -> _Step:
    """The step to the minimum of the barrier's second order approximation."""
    x_K, y_K, d_K = np.exp(u_K), np.exp(v_K), program.d_K
    air_K = weight * program.t_K / x_K
    loss_K = weight * program.r_K * (x_K / y_K) ** d_K
    energy_K = weight * program.e_K * y_K / x_K if program.priced else np.zeros_like(x_K)
    idle_K = weight * program.h_K * y_K if program.priced else np.zeros_like(x_K)
    floor_K = 1.0 / (u_K - np.log(program.floor_K))
    most_K, least_K = 1.0 / (np.log(program.most) - v_K), 1.0 / (v_K - np.log(program.least))
    x_slack, y_slack = 1.0 - x_K.sum(), 1.0 - y_K.sum()
    gradient_u = -air_K + d_K * loss_K - energy_K - floor_K + x_K / x_slack
    gradient_v = -d_K * loss_K + energy_K + idle_K + most_K - least_K
    uu = air_K + d_K**2 * loss_K + energy_K + floor_K**2 + x_K / x_slack
    vv = d_K**2 * loss_K + energy_K + idle_K + most_K**2 + least_K**2
    uv = -(d_K**2) * loss_K - energy_K
    zero_K = np.zeros_like(x_K)
    dyads = [(x_K / x_slack, zero_K)]
    if program.shared:
        gradient_v = gradient_v + y_K / y_slack
        vv = vv + y_K / y_slack
        dyads.append((zero_K, y_K / y_slack))
    determinant = uu * vv - uv * uv

    def blocks(a_K: Floats, b_K: Floats) -> tuple[Floats, Floats]:
        return (vv * a_K - uv * b_K) / determinant, (uu * b_K - uv * a_K) / determinant

    step_u, step_v = blocks(-gradient_u, -gradient_v)
    solved = [blocks(*dyad) for dyad in dyads]
    inner = np.eye(len(dyads)) + np.array(
        [[a_u @ s_u + a_v @ s_v for s_u, s_v in solved] for a_u, a_v in dyads]
    )
    share = np.linalg.solve(inner, np.array([a_u @ step_u + a_v @ step_v for a_u, a_v in dyads]))
    for part, (s_u, s_v) in zip(share, solved, strict=True):
        step_u, step_v = step_u - part * s_u, step_v - part * s_v
    decrement = -float(gradient_u @ step_u + gradient_v @ step_v)
    if not np.isfinite(decrement):
        raise SolverError("the solver's step holds no numbers")
    return _Step(step_u, step_v, decrement)
