"""A heuristic without a solver: the budget goes out in parcels, each to whom it helps most."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edge_server.cell.allocation.closed_forms import bandwidth_shares
from edge_server.cell.allocation.cost import bandwidth_floor, best_lengths, costs
from edge_server.cell.allocation.problem import Allocation, Floats, Problem
from edge_server.cell.allocation.shares import share_power


class Greedy:
    """Starts from a part of an equal split, then gives parcels of bandwidth, then of power.

    Each parcel goes to the user whose cost, at its best token length, falls most by it; a user at its bound
    on power takes no more, and power that would only cost energy stays unspent.

    Args:
        parcels: of bandwidth, and of power, for each user.
        kept: the part of an equal split that everybody has before.
    """

    name = "greedy"

    def __init__(self, parcels: int = 8, kept: float = 0.25) -> None:
        self.parcels = parcels
        self.kept = kept

    def allocate(self, problem: Problem) -> Allocation:
        """See :class:`~edge_server.cell.allocation.policy.Policy`."""
        budget, users = problem.budget, len(problem.users)
        equal_K = bandwidth_shares(problem, np.ones(users))
        power_K = share_power(np.ones(users), budget)
        start_K = np.maximum(self.kept * equal_K, bandwidth_floor(problem))
        bandwidth_K = self._give_out(
            start_K,
            float(equal_K.sum() - start_K.sum()),
            np.inf,
            lambda trial_K: costs(problem, trial_K, power_K).min(axis=1),
        )
        spread_K = self._give_out(
            self.kept * power_K,
            float((1.0 - self.kept) * power_K.sum()),
            np.inf if budget.user_power_w is None else budget.user_power_w,
            lambda trial_K: costs(problem, bandwidth_K, trial_K).min(axis=1),
        )
        return Allocation(bandwidth_K, spread_K, best_lengths(problem, bandwidth_K, spread_K), self.name)

    def _give_out(
        self, start_K: Floats, total: float, most: float, cost: Callable[[Floats], Floats]
    ) -> Floats:
        """``start_K`` and parcels of ``total`` on top, while they lower a cost; nobody above ``most``."""
        held_K = start_K.copy()
        parcel = total / (self.parcels * len(held_K))
        now_K = cost(held_K)
        # One more of each: users do not meet, so one call tells what the parcel would do for any of them.
        for _ in range(self.parcels * len(held_K)):
            more_K = np.minimum(held_K + parcel, most)
            next_K = cost(more_K)
            best = int(np.argmax(now_K - next_K))
            if now_K[best] - next_K[best] <= 0.0:
                break
            held_K[best], now_K[best] = more_K[best], next_K[best]
        return held_K
