"""The joint policy: never dearer than another, near the exhaustive optimum, and told when it falls back."""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace

import numpy as np
import pytest

from edge_server.cell.allocation import (
    POLICIES,
    Allocation,
    Joint,
    LossFit,
    LossOfEach,
    LossPoint,
    LossTable,
    Objective,
    SolverError,
    exhaustive_optimum,
    make_policy,
)
from edge_server.cell.allocation.bandwidth_grid import best_on_grid
from edge_server.cell.allocation.cost import best_lengths, cost_of, costs, violations
from edge_server.cell.allocation.geometric import GeometricSolver
from edge_server.cell.allocation.interior_point import InteriorPointSolver
from edge_server.cell.allocation.problem import InfeasibleError, Problem
from edge_server.cell.allocation.program import Solver
from tests.unit.edge_server.cell.allocation.drops import LOSS, problem, random_drop

FREE = [name for name in POLICIES if name != "joint"]
PRECISION = 1e-5


def joint(solver: Solver | None = None) -> Joint:
    """With a clock that stands: never late."""
    return Joint(1.0, solver=solver, clock=lambda: 0.0)


@pytest.fixture(scope="module", params=[InteriorPointSolver, GeometricSolver])
def solver(request: pytest.FixtureRequest) -> Solver:
    found: Solver = request.param()
    return found


def cheapest(cell: Problem) -> float:
    return min(cost_of(cell, make_policy(name).allocate(cell)) for name in FREE)


@pytest.mark.parametrize("users", [1, 3, 8, 24])
def test_joint_is_never_dearer_than_another_policy(users: int, solver: Solver) -> None:
    better = 0
    for seed in range(6):
        cell = random_drop(seed, users)
        found = joint(solver).allocate(cell)
        assert (found.policy, found.fallback) == ("joint", "")
        assert violations(cell, found) == []
        assert cost_of(cell, found) <= cheapest(cell)
        better += cost_of(cell, found) < cheapest(cell) * (1.0 - 1e-4)
    assert better or users == 1


@pytest.mark.parametrize(("seed", "users"), [(1, 2), (2, 2), (3, 3), (6, 3), (4, 4), (5, 4)])
def test_joint_is_within_two_percent_of_the_exhaustive_optimum(seed: int, users: int) -> None:
    cell = random_drop(seed, users, lengths=(1, 4, 16) if users > 3 else (1, 2, 4, 16))
    best = cost_of(cell, exhaustive_optimum(cell))
    found = cost_of(cell, joint().allocate(cell))
    assert best * (1.0 - PRECISION) <= found <= best * 1.02


@pytest.mark.parametrize("users", [1, 2, 3, 8, 24, 64])
def test_our_solver_and_cvxpy_find_the_same_optimum(users: int) -> None:
    """The split may differ where the objective is flat; what it costs may not."""
    ours, theirs = InteriorPointSolver(), GeometricSolver()
    for seed in range(6):
        cell = random_drop(seed, users)
        length_K = np.random.default_rng(seed).choice(cell.users[0].token_lengths, users)
        found = [Allocation(*each.solve(cell, length_K, 60.0), length_K, "") for each in (ours, theirs)]
        assert violations(cell, found[0]) == []
        assert cost_of(cell, found[0]) == pytest.approx(cost_of(cell, found[1]), rel=1e-6)


def test_the_exhaustive_optimum_is_the_same_by_cvxpy() -> None:
    cell = random_drop(2, 2)
    ours, theirs = exhaustive_optimum(cell), exhaustive_optimum(cell, solver=GeometricSolver())
    assert cost_of(cell, ours) == pytest.approx(cost_of(cell, theirs), rel=1e-6)
    assert list(ours.length_K) == list(theirs.length_K)


def test_users_of_different_losses_are_solved_together() -> None:
    """Two users alike but in what noise costs: the one that suffers more from it gets more of the power."""
    deaf = LossFit(a=0.1, b=0.2, p=1.0, c=0.02, d=0.5)
    cell = replace(problem([5.0, 5.0]), loss=LossOfEach([LOSS, LOSS]))
    assert cost_of(cell, joint().allocate(cell)) == pytest.approx(
        cost_of(problem([5.0, 5.0]), joint().allocate(problem([5.0, 5.0]))), rel=1e-6
    )
    mixed = replace(cell, loss=LossOfEach([LOSS, replace(deaf, c=0.2)]))
    found = joint().allocate(mixed)
    assert found.fallback == ""
    assert found.power_K[1] > found.power_K[0] * 1.05
    assert cost_of(mixed, found) <= cheapest(mixed)
    with pytest.raises(SolverError, match="different exponents"):
        GeometricSolver().solve(mixed, found.length_K, 1.0)


def test_our_solver_is_late_where_it_has_no_time() -> None:
    with pytest.raises(SolverError, match="late"):
        InteriorPointSolver().solve(random_drop(1, 8), np.full(8, 4), 0.0)


def test_the_exhaustive_optimum_is_what_a_fine_grid_finds() -> None:
    """By arithmetic alone, over both budgets of two users, each with its best length."""
    cell = problem([18.0, -4.0], bandwidth_hz=600.0, weights=[1.0, 2.0])
    parts = np.linspace(0.002, 0.998, 400)
    least = np.inf
    for part in parts:
        bandwidth_K = 600.0 * np.array([part, 1.0 - part])
        for power in np.linspace(0.002, 0.998, 200):
            power_K = np.array([power, 1.0 - power])
            least = min(least, costs(cell, bandwidth_K, power_K).min(axis=1).sum())
    best = cost_of(cell, exhaustive_optimum(cell))
    assert best == pytest.approx(least, rel=1e-3)
    assert best <= least * (1.0 + PRECISION)


def test_a_solved_split_cannot_be_improved_nearby(solver: Solver) -> None:
    cell = problem([15.0, 3.0, -6.0], user_power_w=0.6, objective=Objective(0.6, 1.0, 0.2))
    length_K = np.array([4, 4, 16])
    bandwidth_K, power_K = solver.solve(cell, length_K, 10.0)
    column_K = [cell.users[0].token_lengths.index(length) for length in length_K]

    def cost(x_K: np.ndarray, y_K: np.ndarray) -> float:
        return float(costs(cell, x_K, y_K)[np.arange(3), column_K].sum())

    random = np.random.default_rng(3)
    least = cost(bandwidth_K, power_K)
    for _ in range(300):
        x_K = bandwidth_K * np.exp(random.normal(0.0, 0.05, 3))
        y_K = np.minimum(power_K * np.exp(random.normal(0.0, 0.05, 3)), 0.6)
        assert least <= cost(x_K * min(1.0, 1e4 / x_K.sum()), y_K / max(1.0, y_K.sum())) * (1.0 + PRECISION)


def test_equal_links_are_treated_equally(solver: Solver) -> None:
    bandwidth_K, power_K = solver.solve(problem([5.0] * 4), np.full(4, 8), 10.0)
    assert bandwidth_K == pytest.approx(np.full(4, 2500.0), rel=1e-3)
    assert power_K == pytest.approx(np.full(4, 0.25), rel=1e-3)


def test_airtime_alone_is_shared_by_the_root_of_symbols(solver: Solver) -> None:
    """Only latency counts: sum of n_k / B_k is least at B_k in proportion to the root of n_k."""
    cell = problem([5.0, 5.0], objective=Objective(latency_weight=1.0))
    bandwidth_K, _ = solver.solve(cell, np.array([1, 16]), 10.0)
    assert bandwidth_K == pytest.approx([2e3, 8e3], rel=1e-3)


def test_deadlines_are_met_where_they_are_tight() -> None:
    cell = problem([20.0, -5.0], bandwidth_hz=4e3, deadlines_s=[0.01, None])
    found = joint().allocate(cell)
    assert 32 * found.length_K[0] / found.bandwidth_K[0] <= 0.01 * (1.0 + 1e-6)
    assert found.fallback == ""


def lost_links(lost_db: float = -20.0) -> LossTable:
    """Loss that is bounded, as measured loss is: below an SNR nothing gets through."""

    def loss(snr_db: float, length: int) -> float:
        good = 0.05 + 0.3 / length
        return good + (0.9 - good) / (1.0 + 10.0 ** ((snr_db - lost_db) / 5.0))

    return LossTable(
        [
            LossPoint(float(snr_db), length, loss(snr_db, length))
            for snr_db in np.arange(-45.0, 31.0, 5.0)
            for length in (1, 2, 4, 8, 16, 32)
        ]
    )


def user_bound(cell: Problem, loss: LossTable) -> Problem:
    """The cell with this loss, where everybody has an equal part of the power, and energy is free."""
    budget = replace(cell.budget, power_w=None, user_power_w=1.0 / len(cell.users))
    return replace(cell, loss=loss, budget=budget, objective=replace(cell.objective, energy_price=0.0))


@pytest.mark.parametrize("users", [2, 4, 12, 24])
def test_of_a_measured_loss_it_is_near_the_optimum_and_never_dearer_than_another(users: int) -> None:
    for seed in range(5):
        cell = user_bound(random_drop(seed, users), lost_links())
        found = joint().allocate(cell)
        assert found.fallback == ""
        assert violations(cell, found) == []
        assert cost_of(cell, found) <= cheapest(cell)
        assert cost_of(cell, found) <= 1.02 * cost_of(cell, best_on_grid(cell, 600))


def test_nothing_is_spent_on_a_link_that_is_lost_either_way() -> None:
    """A fit has no bound and would pay for it; a measured loss says that it is in vain."""
    cell = user_bound(problem([10.0, 12.0, -60.0]), lost_links())
    by_table = joint().allocate(cell)
    by_fit = joint().allocate(replace(cell, loss=cell.loss.as_fit()))
    assert by_table.length_K[2] == 1
    assert by_table.bandwidth_K[2] < 0.5 * by_table.bandwidth_K[:2].min()
    assert cost_of(cell, by_table) < cost_of(cell, by_fit)


def test_power_that_is_shared_goes_downhill_from_the_best_without_a_solver() -> None:
    for seed in range(4):
        cell = replace(random_drop(seed, 6), loss=lost_links())
        assert cell.budget.power_w is not None
        found = joint().allocate(cell)
        assert violations(cell, found) == []
        assert cost_of(cell, found) <= cheapest(cell)


def test_two_users_on_a_grid_have_the_best_of_all_splits() -> None:
    cell = user_bound(problem([3.0, -12.0]), lost_links())
    parts_hz, half_w = cell.budget.bandwidth_hz / 100, np.full(2, 0.5)
    splits = [
        Allocation(np.array([part, 100 - part]) * parts_hz, half_w, np.array(length_K), "split")
        for part in range(1, 100)
        for length_K in itertools.product((1, 2, 4, 8, 16, 32), repeat=2)
    ]
    least = min(cost_of(cell, split) for split in splits)
    assert cost_of(cell, best_on_grid(cell, 100)) == pytest.approx(least, rel=1e-12)


def test_deadlines_for_which_a_grid_is_too_coarse_are_kept_without_it() -> None:
    """Two users that need all but a thousandth of the bandwidth, at a place that no whole parts are at."""
    cell = user_bound(problem([10.0, 10.0]), lost_links())
    hz = cell.budget.bandwidth_hz
    needs_hz = (0.3045 * hz, 0.6945 * hz)
    users = tuple(
        replace(user, deadline_s=user.symbols_per_token * user.token_lengths[0] / need_hz)
        for user, need_hz in zip(cell.users, needs_hz, strict=True)
    )
    cell = replace(cell, users=users)
    with pytest.raises(InfeasibleError, match="too coarse"):
        best_on_grid(cell, 100)
    found = joint().allocate(cell)
    assert violations(cell, found) == []


def test_a_grid_is_refused_what_it_cannot_share() -> None:
    with pytest.raises(ValueError, match="only bandwidth"):
        best_on_grid(random_drop(1, 3), 60)
    with pytest.raises(ValueError, match="at least one for each of 3 users"):
        best_on_grid(user_bound(random_drop(1, 3), lost_links()), 2)


def test_joint_needs_no_cvxpy_but_its_yardstick_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cvxpy", None)
    cell = random_drop(1, 3)
    assert joint().allocate(cell).fallback == ""
    with pytest.raises(SolverError, match=r"not installed; the extra \[allocation\]"):
        GeometricSolver().solve(cell, np.full(3, 4), 1.0)


class Failing(InteriorPointSolver):
    """Fails from the given call on."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def solve(
        self, problem: Problem, length_K: np.ndarray, time_limit_s: float
    ) -> tuple[np.ndarray, np.ndarray]:
        if not self.left:
            raise SolverError("the solver failed: out of luck")
        self.left -= 1
        return super().solve(problem, length_K, time_limit_s)


def test_a_solver_that_fails_is_replaced_and_told() -> None:
    cell = random_drop(1, 3)
    found = joint(Failing(after=0)).allocate(cell)
    assert found.policy in FREE
    assert found.fallback == "the solver failed: out of luck"
    assert cost_of(cell, found) == cheapest(cell)


def test_a_solver_that_fails_later_leaves_what_it_found() -> None:
    cell = random_drop(1, 3)
    found = joint(Failing(after=1)).allocate(cell)
    assert (found.policy, found.fallback) == ("joint", "")
    assert cost_of(cell, found) <= cheapest(cell)


def test_a_solver_that_is_late_is_not_waited_for() -> None:
    hours = iter(range(0, 10**6, 3600))
    found = Joint(1.0, clock=lambda: float(next(hours))).allocate(random_drop(1, 3))
    assert found.policy in FREE
    assert "no time left" in found.fallback


def test_nothing_to_share_is_no_failure_of_the_cell() -> None:
    """Loss that no SNR changes, and latency that does not count."""
    cell = problem([5.0, 0.0], objective=Objective(latency_weight=0.0), loss=replace(LOSS, c=0.0))
    found = joint().allocate(cell)
    assert "nothing that can be shared out" in found.fallback
    assert list(found.length_K) == [32, 32]


def test_more_users_than_can_be_tried_are_refused() -> None:
    with pytest.raises(ValueError, match="up to 4"):
        exhaustive_optimum(random_drop(1, 5))


def test_lengths_are_each_users_best() -> None:
    cell = random_drop(2, 4)
    found = joint().allocate(cell)
    assert list(best_lengths(cell, found.bandwidth_K, found.power_K)) == list(found.length_K)
