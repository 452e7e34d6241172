"""Bandwidth, power and token length together: geometric programs, and lengths by looking at all of them.

Alternation: at given lengths, bandwidth and power (:mod:`edge_server.cell.allocation.interior_point`); at
those, every user's best length; until the objective falls no more. It ends where no user alone would change
its length, which need not be the best place: so it starts from several, and in small cells it also tries
single steps of a length with everything else solved anew.

A loss that is no posynomial is solved by its fit first. From what is best by then, and from the best that
was found without a solver, it is solved again and again as what it is like near where one stands. There a
step downhill need not lead to the best place either: where bandwidth alone is shared, a coarse grid
(:mod:`edge_server.cell.allocation.bandwidth_grid`) says where that is.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_server.cell.allocation.bandwidth_grid import best_on_grid, shares_only_bandwidth
from edge_server.cell.allocation.closed_forms import Equal, Fixed, MaxMin, ProportionalFair, WaterFilling
from edge_server.cell.allocation.cost import at_columns, best_lengths, columns, cost_of, snrs
from edge_server.cell.allocation.greedy import Greedy
from edge_server.cell.allocation.interior_point import InteriorPointSolver
from edge_server.cell.allocation.local_loss import LocalLoss
from edge_server.cell.allocation.policy import Policy
from edge_server.cell.allocation.problem import Allocation, Floats, InfeasibleError, Problem, SolverError
from edge_server.cell.allocation.program import Solver

#: How far a loss is looked at around where one stands, first and last [dB].
_WINDOWS_DB = (6.0, 1.5)
#: Parts of a grid of bandwidth: for each user, and beside.
_PARTS_EACH, _PARTS_MORE = 3, 64
#: Of the way to where its likeness would lead, what is tried.
_PARTS = (1.0, 0.5, 0.2)
#: Of the objective, what one more step must bring; and how many there are at most.
_WORTH_A_STEP, _MOST_STEPS = 1e-3, 8


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
        search.refine(search.best)
        search.refine(starts[0])
        if len(problem.users) <= self.steps_up_to:
            search.step()
        if not search.solved:
            return replace(starts[0], fallback=search.failure)
        return replace(search.best, policy=self.name)

    def quick(self, problem: Problem) -> Allocation:
        """The cheapest that is found without the solver, where a search starts; takes a fraction of the time.

        Raises:
            InfeasibleError: as :meth:`allocate`.
        """
        return _without_solver(problem)[0]


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

    def refine(self, found: Allocation) -> None:
        """From an allocation downhill, by what the loss is like near each point on the way."""
        problem, cost = self._problem, cost_of(self._problem, found)
        for window_db in _WINDOWS_DB:
            for _ in range(_MOST_STEPS):
                gamma_K = snrs(problem, found.bandwidth_K, found.power_K)
                local = problem.loss.around(gamma_K, found.length_K, window_db)
                if not isinstance(local, LocalLoss):
                    return  # a fit, which was solved as it is
                try:
                    bandwidth_K, power_K = self._solver.solve(
                        replace(problem, loss=local), found.length_K, self._left_s()
                    )
                except SolverError as error:
                    self.failure = str(error)
                    return
                self.solved += 1
                after = min(
                    (self._part_of_the_way(found, bandwidth_K, power_K, part) for part in _PARTS),
                    key=lambda allocation: cost_of(problem, allocation),
                )
                before, cost = cost, min(cost, cost_of(problem, after))
                if cost < before:
                    found = after
                    self._offer(found)
                if cost > before * (1.0 - _WORTH_A_STEP):
                    break

    def _part_of_the_way(
        self, found: Allocation, bandwidth_K: Floats, power_K: Floats, part: float
    ) -> Allocation:
        """Between two allocations, in the logarithm, at the best lengths there; it keeps what both keep."""
        bandwidth_K = found.bandwidth_K ** (1.0 - part) * bandwidth_K**part
        power_K = found.power_K ** (1.0 - part) * power_K**part
        length_K = best_lengths(self._problem, bandwidth_K, power_K)
        return Allocation(bandwidth_K, power_K, length_K, Joint.name)

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
    """What can be said without a solver, cheapest first."""
    policies: Sequence[Policy] = (Equal(), Fixed(), ProportionalFair(), MaxMin(), WaterFilling(), Greedy())
    found = [policy.allocate(problem) for policy in policies]
    if problem.loss.as_fit() is not problem.loss and shares_only_bandwidth(problem):
        with contextlib.suppress(InfeasibleError):  # the grid's: the others keep every deadline
            found.append(best_on_grid(problem, _PARTS_EACH * len(problem.users) + _PARTS_MORE))
    return sorted(found, key=lambda allocation: cost_of(problem, allocation))
