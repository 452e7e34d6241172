"""Joint allocation: bandwidth, transmit power and token length of all users of a cell at once.

    Problem (users, budget, objective, loss surface) ──▶ Policy ──▶ Allocation
    equal fixed proportional_fair max_min water_filling greedy    closed forms and a heuristic, numpy alone
    joint                                                         geometric programs, by a solver of its own

Called by :mod:`edge_server.cell.allocator` for the sessions of a server, by ``edge-server study cell`` for
cells that are made up. cvxpy (the extra ``[allocation]``) solves the same programs: what ours is tested by.
"""

from edge_server.cell.allocation.exhaustive import exhaustive_optimum
from edge_server.cell.allocation.joint import Joint
from edge_server.cell.allocation.loss import LossFit, LossPoint, LossSurface
from edge_server.cell.allocation.loss_of_each import LossOfEach
from edge_server.cell.allocation.loss_table import LossTable
from edge_server.cell.allocation.policies import POLICIES, make_policy
from edge_server.cell.allocation.policy import Policy
from edge_server.cell.allocation.problem import (
    Allocation,
    Budget,
    InfeasibleError,
    Objective,
    Problem,
    SolverError,
    User,
)
from edge_server.cell.allocation.study_points import points_of_study

__all__ = [
    "POLICIES",
    "Allocation",
    "Budget",
    "InfeasibleError",
    "Joint",
    "LossFit",
    "LossOfEach",
    "LossPoint",
    "LossSurface",
    "LossTable",
    "Objective",
    "Policy",
    "Problem",
    "SolverError",
    "User",
    "exhaustive_optimum",
    "make_policy",
    "points_of_study",
]
