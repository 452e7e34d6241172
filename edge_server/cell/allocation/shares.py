"""A budget shared out in given proportions, where some may not get less, or more, than a bound."""

from __future__ import annotations

import numpy as np

from edge_server.cell.allocation.problem import Budget, Floats


def share_with_floors(weight_K: Floats, floor_K: Floats, total: float) -> Floats:
    """All of ``total`` in proportion to the weights, but to nobody less than the floor.

    Args:
        weight_K: above 0.
        floor_K: from 0; their sum is at most ``total``.
        total: above 0.

    Returns:
        (K,): max(floor, theta * weight) with the theta at which the sum is ``total``.
    """
    # Whoever has the highest floor for its weight is the first that stays at it.
    order = np.argsort(-floor_K / weight_K)
    held, weight = 0.0, float(weight_K.sum())
    for k in order:
        theta = (total - held) / weight
        if theta * weight_K[k] >= floor_K[k]:
            break
        held, weight = held + float(floor_K[k]), weight - float(weight_K[k])
        if weight <= 1e-12 * weight_K.sum():
            theta = 0.0
            break
    return np.maximum(floor_K, max(theta, 0.0) * weight_K)


def share_power(weight_K: Floats, budget: Budget) -> Floats:
    """As much power as is allowed, in proportion to the weights as far as each user's bound lets it [W].

    Args:
        weight_K: above 0.
        budget: where only users are bounded, each gets its bound.

    Returns:
        (K,): min(user_power_w, theta * weight) with the greatest theta that ``power_w`` allows.
    """
    most = np.inf if budget.user_power_w is None else budget.user_power_w
    if budget.power_w is None or budget.power_w >= most * len(weight_K):
        return np.full(len(weight_K), most)
    order = np.argsort(-weight_K)
    left, weight = budget.power_w, float(weight_K.sum())
    for k in order:
        theta = left / weight
        if theta * weight_K[k] <= most:
            break
        left, weight = left - most, weight - float(weight_K[k])
    return np.minimum(most, theta * weight_K)


def water_level(height_K: Floats, total: float, most: float) -> Floats:
    """min(most, max(0, level - height)) with the level at which the sum is ``total``, or all have ``most``.

    Args:
        height_K: where the water begins for each.
        total: how much there is.
        most: what one holds at most; may be infinite.
    """
    if most * len(height_K) <= total:
        return np.full(len(height_K), most)
    low, high = float(height_K.min()), float(height_K.max() + total)
    for _ in range(200):
        level = (low + high) / 2.0
        if np.clip(level - height_K, 0.0, most).sum() > total:
            high = level
        else:
            low = level
    return np.clip(low - height_K, 0.0, most)
