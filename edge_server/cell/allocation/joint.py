"""Bandwidth, power and token length together: geometric programs, and lengths by looking at all of them.

Alternation: at given lengths, bandwidth and power (:mod:`edge_server.cell.allocation.interior_point`); at
those, every user's best length; until the objective falls no more. It ends where no user alone would change
its length, which need not be the best place: so it starts from several, and in small cells it also tries
single steps of a length with everything else solved anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_server.cell.allocation.closed_forms import Equal, Fixed, MaxMin, ProportionalFair, WaterFilling
from edge_server.cell.allocation.cost import at_columns, best_lengths, columns, cost_of
from edge_server.cell.allocation.greedy import Greedy
from edge_server.cell.allocation.interior_point import InteriorPointSolver
from edge_server.cell.allocation.policy import Policy
from edge_server.cell.allocation.problem import Allocation, Problem, SolverError
from edge_server.cell.allocation.program import Solver


class Joint:
    """All three at once.

    It is never dearer than the policies that need no solver: the cheapest of them is where it starts, and
    what it falls back to where the solver fails or is late; :attr:`Allocation.fallback` then says why.

    Args:
        time_limit_s: for one call [s]; what is best by then is the answer.
        steps_up_to: users up to which single steps of lengths are tried.
        solver: of bandwidth and power at given lengths.
        clock: monotonic seconds.
    """

    name = "joint"

    def __init__(
        self,
        time_limit_s: float = 1.0,
        *,
        steps_up_to: int = 4,
        solver: Solver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.time_limit_s = time_limit_s
        self.steps_up_to = steps_up_to
        self._solver = solver or InteriorPointSolver()
        self._clock = clock

    def allocate(self, problem: Problem) -> Allocation:
        """See :class:`~edge_server.cell.allocation.policy.Policy`."""
        until_s = self._clock() + self.time_limit_s
        starts = _without_solver(problem)
        search = _Search(problem, starts[0], self._solver, lambda: until_s - self._clock())
        for start in starts:
            search.alternate(start.length_K)
        if len(problem.users) <= self.steps_up_to:
            search.step()
        if not search.solved:
            return replace(starts[0], fallback=search.failure)
        return replace(search.best, policy=self.name)


class _Search:
    """The best allocation so far, and how to look for a better one."""

    def __init__(
        self, problem: Problem, best: Allocation, solver: Solver, left_s: Callable[[], float]
    ) -> None:
        self.best = best
        self.solved = 0
        self.failure = ""
        self._problem = problem
        self._cost = cost_of(problem, best)
        self._solver = solver
        self._left_s = left_s
        self._seen: set[tuple[int, ...]] = set()

    def alternate(self, length_K: NDArray[np.int64]) -> None:
        """From these lengths to where no user alone changes its own, or the solver fails, or time is up."""
        while tuple(length_K) not in self._seen:
            self._seen.add(tuple(length_K))
            left_s = self._left_s()
            if left_s <= 0.0:
                self.failure = self.failure or "there was no time left for the solver"
                return
            try:
                bandwidth_K, power_K = self._solver.solve(self._problem, length_K, left_s)
            except SolverError as error:
                self.failure = str(error)
                return
            self.solved += 1
            self._offer(Allocation(bandwidth_K, power_K, length_K, Joint.name))
            length_K = best_lengths(self._problem, bandwidth_K, power_K)
            self._offer(Allocation(bandwidth_K, power_K, length_K, Joint.name))

    def step(self) -> None:
        """Other lengths of one user at a time, from the best, until none of them is better."""
        before = np.inf
        while self._cost < before:
            before, column_K = self._cost, columns(self._problem, self.best.length_K)
            for k, user in enumerate(self._problem.users):
                for step in (-1, 1):
                    moved_K = column_K.copy()
                    moved_K[k] += step
                    if 0 <= moved_K[k] < len(user.token_lengths):
                        self.alternate(at_columns(self._problem, moved_K)[0])

    def _offer(self, found: Allocation) -> None:
        cost = cost_of(self._problem, found)
        if cost < self._cost:
            self.best, self._cost = found, cost


def _without_solver(problem: Problem) -> Sequence[Allocation]:
    """What the other policies say, cheapest first."""
    policies: Sequence[Policy] = (Equal(), Fixed(), ProportionalFair(), MaxMin(), WaterFilling(), Greedy())
    return sorted(
        (policy.allocate(problem) for policy in policies), key=lambda allocation: cost_of(problem, allocation)
    )
