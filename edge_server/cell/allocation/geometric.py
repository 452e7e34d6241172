"""Bandwidth and power of all users at given token lengths: a geometric program, solved by cvxpy.

In shares x_k = B_k / B and y_k = P_k / P of what there is:

    min   sum_k  t_k / x_k  +  r_k (x_k / y_k)**d  +  e_k y_k / x_k  +  h_k y_k
    s.t.  sum x_k <= 1,  x_k >= f_k,  sum y_k <= 1 and/or y_k <= m

with airtime t, the part of the loss that depends on SNR r, energy on air e and while tokens are made h. All
are parameters: a program is compiled once for a number of users and an exponent, and then only filled in.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_server.cell.allocation.cost import at_columns, bandwidth_floor, check_feasible, columns
from edge_server.cell.allocation.problem import Floats, Problem, SolverError

#: Nobody has less than this part of an equal share: what is worth nothing would run off to 0.
_LEAST = 1e-4
_KEPT_PROGRAMS = 8


class GeometricSolver:
    """Solves one problem after another; keeps what it compiled. Not for several threads at once."""

    def __init__(self) -> None:
        self._programs: OrderedDict[tuple[int, float, bool, bool], _Program] = OrderedDict()

    def solve(
        self, problem: Problem, length_K: NDArray[np.int64], time_limit_s: float
    ) -> tuple[Floats, Floats]:
        """The best bandwidths [Hz] and powers [W] at these token lengths.

        A loss that is no posynomial is replaced by its fit.

        Raises:
            InfeasibleError: no bandwidths meet the deadlines at any lengths.
            SolverError: cvxpy is not installed, gave up or was late, or these lengths miss a deadline.
        """
        check_feasible(problem)
        fit, users = problem.loss.as_fit(), len(problem.users)
        key = (users, fit.d, problem.budget.power_w is not None, problem.objective.energy_price > 0.0)
        program = self._programs.pop(key, None) or _Program(*key)
        self._programs[key] = program
        while len(self._programs) > _KEPT_PROGRAMS:
            self._programs.popitem(last=False)
        total_w = problem.budget.greatest_power_w(users)
        x_K, y_K = program.solve(_coefficients(problem, length_K, total_w), time_limit_s)
        # A solver meets bounds to its tolerance; this takes off what is above them.
        x_K = x_K / max(1.0, x_K.sum())
        cap = 1.0 if problem.budget.user_power_w is None else problem.budget.user_power_w / total_w
        y_K = np.minimum(y_K, cap)
        if problem.budget.power_w is not None:
            y_K = y_K / max(1.0, y_K.sum())
        return x_K * problem.budget.bandwidth_hz, y_K * total_w


def _coefficients(problem: Problem, length_K: NDArray[np.int64], total_w: float) -> dict[str, Any]:
    """The numbers of the program, by name."""
    budget, objective, fit = problem.budget, problem.objective, problem.loss.as_fit()
    bandwidth_hz, users = budget.bandwidth_hz, len(problem.users)
    floor_K = bandwidth_floor(problem, length_K) / bandwidth_hz
    if not floor_K.sum() <= 1.0:
        raise SolverError(f"token lengths {length_K.tolist()} cannot meet the deadlines")
    _, encode_K = at_columns(problem, columns(problem, length_K))
    airtime_K = problem.arrays.symbols_K * length_K / bandwidth_hz
    noise_K = budget.noise_w_per_hz * bandwidth_hz / (total_w * problem.arrays.gain_K)
    omega, price = objective.latency_weight, objective.energy_price
    named = {
        "t": problem.arrays.weight_K * omega * airtime_K / objective.reference_s,
        "r": problem.arrays.weight_K * (1.0 - omega) * fit.c * noise_K**fit.d,
        "e": price * total_w * airtime_K,
        "h": price * total_w * encode_K,
        "f": np.maximum(floor_K, np.minimum(_LEAST / users, (1.0 - floor_K.sum()) / users)),
        "m": np.array(min(1.0, (budget.user_power_w or np.inf) / total_w)),
    }
    # A geometric program knows no 0, and scale does not matter: tiny against the largest is as good.
    scale = max(named[name].max() for name in "treh")
    if not np.isfinite(scale) or scale <= 0.0:
        raise SolverError("nothing that can be shared out changes the objective")
    for name in "treh":
        named[name] = np.maximum(named[name] / scale, 1e-12)
    return named


class _Program:
    """The compiled program of a number of users and an exponent."""

    def __init__(self, users: int, exponent: float, shared: bool, priced: bool) -> None:
        try:
            import cvxpy as cp
        except ImportError as error:
            raise SolverError("cvxpy is not installed; the extra [allocation] brings it") from error
        self._cp = cp
        self.x_K, self.y_K = cp.Variable(users, pos=True), cp.Variable(users, pos=True)
        self.given = {name: cp.Parameter(users, pos=True) for name in ("trfeh" if priced else "trf")}
        self.given["m"] = cp.Parameter(pos=True)
        given, ratio_K = self.given, self.x_K / self.y_K
        cost = cp.sum(cp.multiply(given["t"], self.x_K**-1))
        cost += cp.sum(cp.multiply(given["r"], ratio_K**exponent))
        if priced:
            cost += cp.sum(cp.multiply(given["e"], ratio_K**-1)) + cp.sum(cp.multiply(given["h"], self.y_K))
        bounds = [cp.sum(self.x_K) <= 1.0, self.x_K >= given["f"], self.y_K <= given["m"]]
        bounds += [self.y_K >= _LEAST / users]
        if shared:
            bounds += [cp.sum(self.y_K) <= 1.0]
        self._problem = cp.Problem(cp.Minimize(cost), bounds)

    def solve(self, coefficients: dict[str, Any], time_limit_s: float) -> tuple[Floats, Floats]:
        for name, parameter in self.given.items():
            parameter.value = coefficients[name]
        cp = self._cp
        try:
            # It warns of inexact answers; whoever asked compares what comes with what it has.
            with warnings.catch_warnings(action="ignore", category=UserWarning):
                self._problem.solve(gp=True, solver=cp.CLARABEL, time_limit=max(time_limit_s, 1e-3))
        except (cp.SolverError, cp.DCPError, ValueError, ArithmeticError) as error:
            raise SolverError(f"the solver failed: {error}") from error
        if self._problem.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
            raise SolverError(f"the solver ended with {self._problem.status!r}")
        x_K, y_K = np.asarray(self.x_K.value, np.float64), np.asarray(self.y_K.value, np.float64)
        if not (np.isfinite(x_K).all() and np.isfinite(y_K).all()):
            raise SolverError("the solver's answer holds no numbers")
        return x_K, y_K
