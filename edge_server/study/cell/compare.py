"""Every policy on the same drops, over bandwidth, power and users; and joint beside the exhaustive optimum.

Policies reckon with the measured loss (:class:`edge_server.cell.allocation.LossTable`), as a server does, and
are judged by it. Beside them: joint allocation that reckons with the fit alone, whose gain is one that only
the fit sees; and the least that any way to share the bandwidth out could cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from typing import Any, TypeVar

import numpy as np

from edge_server.cell.allocation import (
    POLICIES,
    Allocation,
    Budget,
    Joint,
    LossTable,
    Objective,
    Problem,
    User,
    exhaustive_optimum,
    make_policy,
)
from edge_server.cell.allocation.bandwidth_grid import best_on_grid
from edge_server.cell.allocation.cost import cost_of, snrs
from edge_server.study.cell.geometry import Geometry, watts
from edge_server.study.figures.answers import spread

_Found = TypeVar("_Found")

JOINT, BY_FIT, OPTIMUM = "joint", "joint_by_fit", "optimum"
#: A solver that is compared is not hurried.
_PATIENCE_S = 60.0
#: Of the bandwidth, what the optimum is looked for in.
_PARTS = 600


@dataclass(frozen=True)
class Point:
    """One cell, but for where its users are.

    Attributes:
        sweep: which curve it belongs to: ``bandwidth``, ``power`` or ``users``.
        users: of the cell.
        bandwidth_hz: shared by all [Hz].
        power_dbm: of each device at most [dBm].
    """

    sweep: str
    users: int = 24
    bandwidth_hz: float = 1e6
    power_dbm: float = 23.0


@dataclass(frozen=True)
class Plan:
    """What is compared.

    Attributes:
        bandwidths_hz, powers_dbm, users: of the three sweeps; elsewhere as in :class:`Point`.
        drops: in all, shared among the seeds.
        seeds: of the drops.
        small: users, and drops, of the cells that are also solved exhaustively.
        objective: what counts.
    """

    bandwidths_hz: tuple[float, ...] = (1e5, 2.5e5, 5e5, 1e6, 4e6)
    powers_dbm: tuple[float, ...] = (3.0, 13.0, 23.0)
    users: tuple[int, ...] = (4, 8, 16, 32, 64)
    drops: int = 500
    seeds: tuple[int, ...] = (1, 2, 3)
    small: tuple[tuple[int, int], ...] = ((2, 30), (3, 30), (4, 6))
    objective: Objective = field(default_factory=lambda: Objective(0.5, 0.1, 0.0))

    def of(self, drops: int | None) -> Plan:
        """One of so many drops, and of as many fewer small cells; None: this one."""
        if drops is None:
            return self
        part = drops / self.drops
        small = tuple((users, max(round(part * each), len(self.seeds))) for users, each in self.small)
        return replace(self, drops=drops, small=small)

    def points(self) -> list[Point]:
        """Every cell of every sweep."""
        return [
            *(Point("bandwidth", bandwidth_hz=hz) for hz in self.bandwidths_hz),
            *(Point("power", power_dbm=dbm) for dbm in self.powers_dbm),
            *(Point("users", users=count) for count in self.users),
        ]


QUICK = Plan((2.5e5,), (13.0,), (4,), drops=3, small=((2, 1),))


@dataclass(frozen=True)
class Link:
    """What users send.

    Attributes:
        table: measured loss of the mix that they send, and its fit.
        token_lengths: of the bundle.
        symbols_per_token: of a question.
    """

    table: LossTable
    token_lengths: tuple[int, ...]
    symbols_per_token: float


def problem_of(point: Point, link: Link, plan: Plan, rng: np.random.Generator) -> Problem:
    """A drop."""
    geometry = Geometry()
    return Problem(
        users=tuple(
            User(float(gain), link.token_lengths, link.symbols_per_token)
            for gain in geometry.gains(point.users, rng)
        ),
        budget=Budget(
            bandwidth_hz=point.bandwidth_hz,
            user_power_w=watts(point.power_dbm),
            noise_w_per_hz=geometry.noise_w_per_hz,
        ),
        loss=link.table,
        objective=plan.objective,
    )


def compare(link: Link, plan: Plan, jobs: int, advance: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Everything, as JSON.

    Args:
        link: what users send.
        plan: what is compared.
        jobs: processes beside one another.
        advance: told of each point, and each size of small cell, that is done for a seed.
    """
    points, each = plan.points(), len(plan.seeds)
    sweeping = [partial(_drops_of, link, plan, point, seed) for point in points for seed in plan.seeds]
    trying = [
        partial(_small_drops, link, plan, users, drops, seed)
        for users, drops in plan.small
        for seed in plan.seeds
    ]
    swept, small = _all(sweeping, jobs, advance), _all(trying, jobs, advance)
    return {
        "seeds": list(plan.seeds),
        "drops": plan.drops,
        "objective": asdict(plan.objective),
        "geometry": asdict(Geometry()),
        "token_lengths": list(link.token_lengths),
        "symbols_per_token": link.symbols_per_token,
        "loss": asdict(link.table.as_fit()),
        "points": [
            _point_json(point, swept[index * each : (index + 1) * each]) for index, point in enumerate(points)
        ],
        "exhaustive": list(_exhaustive_json(plan, small)),
    }


def _all(tasks: Sequence[Callable[[], _Found]], jobs: int, advance: Callable[[], None]) -> list[_Found]:
    """What each task finds, in their order."""
    found = []
    if jobs == 1:
        for task in tasks:
            found.append(task())
            advance()
        return found
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for running in [pool.submit(task) for task in tasks]:
            found.append(running.result())
            advance()
    return found


def _drops_of(link: Link, plan: Plan, point: Point, seed: int) -> dict[str, list[dict[str, float]]]:
    """What every policy makes of one seed's drops at one point: cost, latency and loss per user."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in (*POLICIES, BY_FIT, OPTIMUM)}
    for drop in range(max(plan.drops // len(plan.seeds), 1)):
        cell = problem_of(point, link, plan, np.random.default_rng([seed, drop]))
        for name in POLICIES:
            policy = Joint(_PATIENCE_S) if name == JOINT else make_policy(name)
            found[name].append(_judged(cell, policy.allocate(cell)))
        fitted = replace(cell, loss=link.table.as_fit())
        found[BY_FIT].append(_judged(cell, Joint(_PATIENCE_S).allocate(fitted)))
        found[OPTIMUM].append({"cost": cost_of(cell, best_on_grid(cell, _PARTS)) / point.users})
    return found


def _judged(cell: Problem, allocation: Allocation) -> dict[str, float]:
    users = len(cell.users)
    gamma_K = snrs(cell, allocation.bandwidth_K, allocation.power_K)
    return {
        "cost": cost_of(cell, allocation) / users,
        "latency_s": float(np.mean(cell.arrays.symbols_K * allocation.length_K / allocation.bandwidth_K)),
        "loss": float(np.mean(cell.loss.at(gamma_K, allocation.length_K))),
        "token_length": float(np.mean(allocation.length_K)),
    }


def _small_drops(link: Link, plan: Plan, users: int, drops: int, seed: int) -> list[float]:
    """Of small cells, joint's cost over that of the exhaustive optimum."""
    point = Point("exhaustive", users=users, bandwidth_hz=1e6 * users / 24)
    ratios = []
    for drop in range(max(drops // len(plan.seeds), 1)):
        cell = problem_of(point, link, plan, np.random.default_rng([seed, drop]))
        cell = replace(cell, loss=link.table.as_fit())  # of which the optimum is known exactly
        ratios.append(
            cost_of(cell, Joint(_PATIENCE_S).allocate(cell)) / cost_of(cell, exhaustive_optimum(cell))
        )
    return ratios


def _point_json(point: Point, seeds: Sequence[dict[str, list[dict[str, float]]]]) -> dict[str, Any]:
    policies: dict[str, dict[str, Any]] = {}
    joint = [float(np.mean([drop["cost"] for drop in found[JOINT]])) for found in seeds]
    for name in seeds[0]:
        values = {
            key: [float(np.mean([drop[key] for drop in found[name]])) for found in seeds]
            for key in seeds[0][name][0]
        }
        policies[name] = {key: spread(each) for key, each in values.items()}
        policies[name]["joint_saves"] = spread(
            [1.0 - mine / theirs for mine, theirs in zip(joint, values["cost"], strict=True)]
        )
        policies[name]["worst_drop"] = max(
            mine["cost"] / theirs["cost"]
            for found in seeds
            for mine, theirs in zip(found[JOINT], found[name], strict=True)
        )
    return {**asdict(point), "drops": sum(len(found[JOINT]) for found in seeds), "policies": policies}


def _exhaustive_json(plan: Plan, found: Sequence[list[float]]) -> Iterator[dict[str, Any]]:
    each = len(plan.seeds)
    for index, (users, _) in enumerate(plan.small):
        ratios = [ratio for of_seed in found[index * each : (index + 1) * each] for ratio in of_seed]
        yield {
            "users": users,
            "drops": len(ratios),
            "mean_ratio": float(np.mean(ratios)),
            "worst_ratio": max(ratios),
        }
