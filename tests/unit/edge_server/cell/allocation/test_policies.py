"""Every policy keeps every bound; each closed form is the optimum of what it says it optimises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from edge_server.cell.allocation import (
    POLICIES,
    Budget,
    InfeasibleError,
    Joint,
    Objective,
    Policy,
    Problem,
    User,
    make_policy,
)
from edge_server.cell.allocation.closed_forms import Equal, Fixed, MaxMin, ProportionalFair, WaterFilling
from edge_server.cell.allocation.cost import cost_of, violations
from edge_server.cell.allocation.greedy import Greedy
from edge_server.cell.allocation.problem import Allocation
from tests.unit.edge_server.cell.allocation.drops import LENGTHS, LOSS, NOISE_W_PER_HZ, problem, problems

FREE = [name for name in POLICIES if name != "joint"]
JOINT = Joint(1.0, clock=lambda: 0.0)


def gamma_of(cell: Problem, found: Allocation) -> np.ndarray:
    return found.power_K * cell.arrays.gain_K / (NOISE_W_PER_HZ * found.bandwidth_K)


@pytest.mark.parametrize("name", FREE)
@given(cell=problems())
@settings(deadline=None, max_examples=50)
def test_a_policy_keeps_every_bound(name: str, cell: Problem) -> None:
    found = make_policy(name).allocate(cell)
    assert violations(cell, found) == []
    assert found.policy == name


@given(cell=problems(most_users=4))
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
def test_joint_keeps_every_bound(cell: Problem) -> None:
    found = JOINT.allocate(cell)
    assert violations(cell, found) == []


def test_what_breaks_a_bound_is_named() -> None:
    cell = problem([10.0, 0.0], user_power_w=0.6, deadlines_s=[0.01, None])
    fine = Equal().allocate(cell)
    assert violations(cell, fine) == []
    for bandwidth, power, length, said in (
        (2.0, 1.0, 1, "bandwidth_K"),
        (1.0, 1.1, 1, "power_K: 1.1 of 1 W"),
        (1.0, 1.3, 1, "for one user"),
        (1.0, 1.0, 32, "deadline"),
        (0.0, 1.0, 1, "bandwidth_K: everybody"),
    ):
        broken = Allocation(
            fine.bandwidth_K * bandwidth, fine.power_K * power, np.array([length, length]), "by hand"
        )
        assert any(said in found for found in violations(cell, broken)), said


def test_equal_is_equal_and_has_the_best_common_length() -> None:
    cell = problem([20.0, 0.0, -5.0])
    found = Equal().allocate(cell)
    assert found.bandwidth_K == pytest.approx(np.full(3, 1e4 / 3))
    assert found.power_K == pytest.approx(np.full(3, 1.0 / 3))
    assert len(set(found.length_K)) == 1
    each = [cost_of(cell, Fixed(length).allocate(cell)) for length in LENGTHS]
    assert cost_of(cell, found) == min(each) < max(each)


def test_the_objective_is_the_formula() -> None:
    user = User(gain=2e-16, token_lengths=(4,), symbols_per_token=32.0, encode_s=(0.1,), weight=3.0)
    cell = Problem((user,), Budget(1e3, 0.5, None, 1e-20), LOSS, Objective(0.25, 2.0, 0.7))
    found = Allocation(np.array([800.0]), np.array([0.4]), np.array([4]), "by hand")
    latency_s = 4 * 32 / 800.0 + 0.1
    gamma = 0.4 * 2e-16 / (1e-20 * 800.0)
    loss = 0.17 + 0.2 * 4**-1.2 + 0.02 * gamma**-0.9
    assert cost_of(cell, found) == pytest.approx(
        3.0 * (0.25 * latency_s / 2.0 + 0.75 * loss) + 0.7 * 0.4 * latency_s
    )


def test_fixed_has_its_length_unless_a_deadline_or_the_bundle_forbids() -> None:
    cell = problem([10.0, 10.0], deadlines_s=[None, 0.1])
    # 5 kHz each: 16 tokens take 102 ms.
    assert list(Fixed(16).allocate(cell).length_K) == [16, 8]
    assert list(Fixed(20).allocate(problem([10.0, 10.0])).length_K) == [16, 16]
    assert list(Fixed(1).allocate(problem([10.0], lengths=(4, 8))).length_K) == [4]


def test_proportional_fair_is_the_greatest_product_of_rates() -> None:
    weights = [1.0, 2.0, 5.0]
    cell = problem([20.0, 5.0, -5.0], weights=weights)
    found = ProportionalFair().allocate(cell)
    assert found.bandwidth_K == pytest.approx(1e4 * np.array(weights) / 8.0)

    def utility(bandwidth_K: np.ndarray) -> float:
        gamma_K = cell.arrays.gain_K / (NOISE_W_PER_HZ * 1e4)  # one power per hertz
        return float(np.dot(weights, np.log(bandwidth_K * np.log2(1.0 + gamma_K))))

    random = np.random.default_rng(1)
    for split in random.dirichlet(np.ones(3), 200):
        assert utility(1e4 * split) <= utility(found.bandwidth_K) + 1e-9


def test_max_min_makes_all_snrs_one_and_none_could_be_higher() -> None:
    cell = problem([20.0, 5.0, -5.0])
    gamma_K = gamma_of(cell, MaxMin().allocate(cell))
    assert gamma_K == pytest.approx(np.full(3, 1.0 / (NOISE_W_PER_HZ * 1e4 / 3 / cell.arrays.gain_K).sum()))


def test_water_filling_is_the_greatest_sum_of_rates() -> None:
    cell = problem([20.0, 5.0, 3.0])
    found = WaterFilling().allocate(cell)
    height_K = NOISE_W_PER_HZ * found.bandwidth_K / cell.arrays.gain_K

    def rate(power_K: np.ndarray) -> float:
        return float(np.log2(1.0 + power_K / height_K).sum())

    random = np.random.default_rng(2)
    # Everybody has a thousandth of an equal share first.
    assert all(rate(split) <= rate(found.power_K) + 1e-3 for split in random.dirichlet(np.ones(3), 500))


def test_water_filling_leaves_the_weak_nearly_dry() -> None:
    found = WaterFilling().allocate(problem([20.0, 20.0, -20.0]))
    assert found.power_K[2] == pytest.approx(1e-3 / 3)
    assert found.power_K.sum() == pytest.approx(1.0)


def test_greedy_spends_what_helps_and_no_more() -> None:
    free = Greedy().allocate(problem([20.0, 0.0]))
    assert free.bandwidth_K.sum() == pytest.approx(1e4)
    assert free.power_K[1] > free.power_K[0]
    dear = Greedy().allocate(problem([20.0, 0.0], objective=Objective(energy_price=1e3)))
    assert dear.power_K.sum() < 0.9


@pytest.mark.parametrize("name", POLICIES)
def test_deadlines_that_nobody_can_meet_are_told(name: str) -> None:
    policy: Policy = make_policy(name)
    with pytest.raises(
        InfeasibleError, match=r"need 12800 Hz at the least, and budget.bandwidth_hz is 10000"
    ):
        policy.allocate(problem([10.0, 0.0], deadlines_s=[0.005, 0.005]))
    slow = User(1e-10, (1, 2), 32.0, encode_s=(0.2, 0.3), deadline_s=0.1)
    with pytest.raises(InfeasibleError, match=r"users\[0\].deadline_s: 0.1 s"):
        policy.allocate(Problem((slow,), Budget(1e6, 1.0), LOSS))


def test_an_unknown_policy_names_the_known() -> None:
    with pytest.raises(ValueError, match=r"equal, fixed, .*joint, not 'best'"):
        make_policy("best")


@pytest.mark.parametrize(
    ("made", "named"),
    [
        (lambda: User(0.0, (1,), 32.0), "gain"),
        (lambda: User(1.0, (), 32.0), "token_lengths"),
        (lambda: User(1.0, (4, 2), 32.0), "token_lengths"),
        (lambda: User(1.0, (1, 2), 32.0, encode_s=(0.1,)), "encode_s"),
        (lambda: User(1.0, (1,), 32.0, encode_s=(-0.1,)), "encode_s"),
        (lambda: User(1.0, (1,), 32.0, deadline_s=0.0), "deadline_s"),
        (lambda: Budget(1e6), "power_w, user_power_w"),
        (lambda: Budget(float("nan"), 1.0), "bandwidth_hz"),
        (lambda: Objective(latency_weight=1.5), "latency_weight"),
        (lambda: Objective(energy_price=-1.0), "energy_price"),
        (lambda: Problem((), Budget(1e6, 1.0), LOSS), "users"),
    ],
)
def test_bad_numbers_are_named(made: object, named: str) -> None:
    assert callable(made)
    with pytest.raises(ValueError, match=f"^{named}:"):
        made()
