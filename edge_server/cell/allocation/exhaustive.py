"""The optimum by trying all token lengths of all users: what heuristics are compared with in small cells."""

from __future__ import annotations

import itertools
import math

import numpy as np

from edge_server.cell.allocation.cost import bandwidth_floor, check_feasible, cost_of
from edge_server.cell.allocation.interior_point import InteriorPointSolver
from edge_server.cell.allocation.problem import Allocation, Problem, SolverError
from edge_server.cell.allocation.program import Solver

MOST_USERS = 4


def exhaustive_optimum(
    problem: Problem, *, time_limit_s: float = 60.0, solver: Solver | None = None
) -> Allocation:
    """The best of one geometric program per combination of token lengths that can meet the deadlines.

    Exact, but for the solver's tolerance, where the problem's loss is a :class:`LossFit`.

    Args:
        problem: of up to 4 users; with six lengths these are 1296 programs.
        time_limit_s: for each program.
        solver: of each program; None: our own.

    Raises:
        ValueError: more users.
        InfeasibleError: nothing meets the deadlines.
        SolverError: a program fails.
    """
    if len(problem.users) > MOST_USERS:
        raise ValueError(f"users: up to {MOST_USERS} can be tried exhaustively, not {len(problem.users)}")
    check_feasible(problem)
    solver, found = solver or InteriorPointSolver(), []
    for lengths in itertools.product(*(user.token_lengths for user in problem.users)):
        length_K = np.array(lengths, np.int64)
        if bandwidth_floor(problem, length_K).sum() <= problem.budget.bandwidth_hz:
            bandwidth_K, power_K = solver.solve(problem, length_K, time_limit_s)
            found.append(Allocation(bandwidth_K, power_K, length_K, "exhaustive"))
    best = min(found, key=lambda allocation: cost_of(problem, allocation))
    if math.isinf(cost_of(problem, best)):
        raise SolverError("no answer of the solver meets the deadlines that it was given")
    return best
