"""The program of :mod:`edge_server.cell.allocation.program`, solved by cvxpy: slow, and not ours.

What our own solver (:mod:`edge_server.cell.allocation.interior_point`) is compared with. The numbers are
parameters: a program is compiled once for a number of users and an exponent, and then only filled in.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from edge_server.cell.allocation.problem import Floats, Problem, SolverError
from edge_server.cell.allocation.program import Program, in_units

_KEPT_PROGRAMS = 8


class GeometricSolver:
    """Implements :class:`~edge_server.cell.allocation.program.Solver`; keeps what it compiled.

    Not for several threads at once.
    """

    def __init__(self) -> None:
        self._programs: OrderedDict[tuple[int, float, bool, bool], _Compiled] = OrderedDict()

    def solve(
        self, problem: Problem, length_K: NDArray[np.int64], time_limit_s: float
    ) -> tuple[Floats, Floats]:
        """See there. Users whose losses have different exponents are refused with a SolverError."""
        program = Program.of(problem, length_K)
        if np.ptp(program.d_K) > 0.0:
            raise SolverError("losses of different exponents are not one compiled program")
        key = (len(length_K), float(program.d_K[0]), program.shared, program.priced)
        compiled = self._programs.pop(key, None) or _Compiled(*key)
        self._programs[key] = compiled
        while len(self._programs) > _KEPT_PROGRAMS:
            self._programs.popitem(last=False)
        return in_units(problem.budget, *compiled.solve(program, time_limit_s))


class _Compiled:
    """The compiled program of a number of users and an exponent."""

    def __init__(self, users: int, exponent: float, shared: bool, priced: bool) -> None:
        try:
            import cvxpy as cp
        except ImportError as error:
            raise SolverError("cvxpy is not installed; the extra [allocation] brings it") from error
        self._cp = cp
        self.x_K, self.y_K = cp.Variable(users, pos=True), cp.Variable(users, pos=True)
        self.given = {
            name: cp.Parameter(users, pos=True)
            for name in ("t_K", "r_K", "floor_K", *(("e_K", "h_K") if priced else ()))
        }
        self.given |= {name: cp.Parameter(pos=True) for name in ("least", "most")}
        given, ratio_K = self.given, self.x_K / self.y_K
        cost = cp.sum(cp.multiply(given["t_K"], self.x_K**-1))
        cost += cp.sum(cp.multiply(given["r_K"], ratio_K**exponent))
        if priced:
            cost += cp.sum(cp.multiply(given["e_K"], ratio_K**-1)) + cp.sum(
                cp.multiply(given["h_K"], self.y_K)
            )
        bounds = [cp.sum(self.x_K) <= 1.0, self.x_K >= given["floor_K"], self.y_K <= given["most"]]
        bounds += [self.y_K >= given["least"]]
        if shared:
            bounds += [cp.sum(self.y_K) <= 1.0]
        self._problem = cp.Problem(cp.Minimize(cost), bounds)

    def solve(self, program: Program, time_limit_s: float) -> tuple[Floats, Floats]:
        for name, parameter in self.given.items():
            parameter.value = getattr(program, name)
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
