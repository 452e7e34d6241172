"""Bandwidth and power of all users at given token lengths, as a geometric program: what a solver is given.

In shares x_k = B_k / B and y_k = P_k / P of what there is:

    min   sum_k  t_k / x_k  +  r_k (x_k / y_k)**d_k  +  e_k y_k / x_k  +  h_k y_k
    s.t.  sum x_k <= 1,  x_k >= f_k,  l <= y_k <= m,  and sum y_k <= 1 where power is bounded in all

with airtime t, the part of the loss that depends on SNR r, energy on air e and while tokens are made h.
Convex in the logarithms of x and y.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_server.cell.allocation.cost import at_columns, bandwidth_floor, check_feasible, columns
from edge_server.cell.allocation.problem import Budget, Floats, Problem, SolverError

#: Nobody has less than this part of an equal share: what is worth nothing would run off to 0.
LEAST = 1e-4
#: A geometric program knows no 0, and scale does not matter: tiny against the largest is as good.
_TINY = 1e-12


class Solver(Protocol):
    """What solves one program after another."""

    def solve(
        self, problem: Problem, length_K: NDArray[np.int64], time_limit_s: float
    ) -> tuple[Floats, Floats]:
        """The best bandwidths [Hz] and powers [W] at these token lengths.

        A loss that is no posynomial is replaced by its fit.

        Raises:
            InfeasibleError: no bandwidths meet the deadlines at any lengths.
            SolverError: it is not installed, gave up or was late, or these lengths miss a deadline.
        """
        ...


@dataclass(frozen=True, eq=False)
class Program:
    """The numbers of the program; K users.

    Attributes:
        t_K, r_K, e_K, h_K: above 0, the largest of all is 1.
        d_K: exponents of the loss.
        floor_K: f.
        least, most: l and m, of each share of power.
        shared: whether power is bounded in all.
        priced: whether energy costs; where it does not, e and h are as good as 0.
    """

    t_K: Floats
    r_K: Floats
    e_K: Floats
    h_K: Floats
    d_K: Floats
    floor_K: Floats
    least: float
    most: float
    shared: bool
    priced: bool

    @classmethod
    def of(cls, problem: Problem, length_K: NDArray[np.int64]) -> Program:
        """The program of a problem at these token lengths; raises as :meth:`Solver.solve`."""
        check_feasible(problem)
        budget, objective, fit = problem.budget, problem.objective, problem.loss.as_fit()
        users, total_w = len(problem.users), budget.greatest_power_w(len(problem.users))
        floor_K = bandwidth_floor(problem, length_K) / budget.bandwidth_hz
        if not floor_K.sum() <= 1.0:
            raise SolverError(f"token lengths {length_K.tolist()} cannot meet the deadlines")
        _, encode_K = at_columns(problem, columns(problem, length_K))
        airtime_K = problem.arrays.symbols_K * length_K / budget.bandwidth_hz
        noise_K = budget.noise_w_per_hz * budget.bandwidth_hz / (total_w * problem.arrays.gain_K)
        omega, price = objective.latency_weight, objective.energy_price
        c_K, d_K = np.broadcast_to(np.ravel(fit.c), (users,)), np.broadcast_to(np.ravel(fit.d), (users,))
        parts = (
            problem.arrays.weight_K * omega * airtime_K / objective.reference_s,
            problem.arrays.weight_K * (1.0 - omega) * c_K * noise_K**d_K,
            price * total_w * airtime_K,
            price * total_w * encode_K,
        )
        scale = max(part.max() for part in parts)
        if not np.isfinite(scale) or scale <= 0.0:
            raise SolverError("nothing that can be shared out changes the objective")
        t_K, r_K, e_K, h_K = (np.maximum(part / scale, _TINY) for part in parts)
        return cls(
            t_K,
            r_K,
            e_K,
            h_K,
            d_K=d_K,
            floor_K=np.maximum(floor_K, np.minimum(LEAST / users, (1.0 - floor_K.sum()) / users)),
            least=LEAST / users,
            most=min(1.0, (budget.user_power_w or np.inf) / total_w),
            shared=budget.power_w is not None,
            priced=price > 0.0,
        )

    def cost(self, x_K: Floats, y_K: Floats) -> float:
        """The objective, in the program's scale."""
        cost_K = self.t_K / x_K + self.r_K * (x_K / y_K) ** self.d_K
        if self.priced:
            cost_K = cost_K + self.e_K * y_K / x_K + self.h_K * y_K
        return float(cost_K.sum())


def in_units(budget: Budget, x_K: Floats, y_K: Floats) -> tuple[Floats, Floats]:
    """Bandwidths [Hz] and powers [W] of shares; what tolerance leaves above a bound is taken off."""
    total_w = budget.greatest_power_w(len(x_K))
    x_K = x_K / max(1.0, x_K.sum())
    cap = 1.0 if budget.user_power_w is None else budget.user_power_w / total_w
    y_K = np.minimum(y_K, cap)
    if budget.power_w is not None:
        y_K = y_K / max(1.0, y_K.sum())
    return x_K * budget.bandwidth_hz, y_K * total_w
