"""Heads of many devices as one: those that lie far from all others left out, the rest by their examples."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edge_server.cotrain.members import Heads
from protos.gradients import Array

#: A head further from the median of all heads than so many median distances is left out of an average.
_FAR_TIMES = 4.0


def average(heads: Mapping[str, Heads], examples: Mapping[str, int]) -> Heads | None:
    """The mean of heads, weighted by examples; None where there is none.

    Args:
        heads: by device, of one shape.
        examples: that each device learned from.
    """
    kept = _near(heads)
    if not kept:
        return None
    total = sum(examples[device] for device in kept)
    shares = {device: np.float32(examples[device] / total) for device in kept}
    first = next(iter(kept.values()))
    return {
        slot: {
            name: sum((of[slot][name] * shares[device] for device, of in kept.items()), np.zeros_like(weight))
            for name, weight in of_slot.items()
        }
        for slot, of_slot in first.items()
    }


def between(heads: Heads, first: Heads, share: float) -> Heads:
    """Heads that are as much as ``share`` of the way back to the first ones."""
    kept, back = np.float32(1.0 - share), np.float32(share)
    return {
        slot: {name: kept * each + back * first[slot][name] for name, each in of_slot.items()}
        for slot, of_slot in heads.items()
    }


def flat(heads: Heads) -> dict[str, Array]:
    """Weights by ``SLOT.NAME``, as files have them."""
    return {f"{slot}.{name}": each for slot, of_slot in heads.items() for name, each in of_slot.items()}


def by_slot(weights: Mapping[str, Array]) -> Heads:
    """What :func:`flat` was made of."""
    heads: Heads = {}
    for name, each in weights.items():
        slot, _, weight = name.partition(".")
        heads.setdefault(slot, {})[weight] = each
    return heads


def _near(heads: Mapping[str, Heads]) -> dict[str, Heads]:
    """Heads without those that lie far from all others."""
    if len(heads) < 3:
        return dict(heads)
    vectors = {
        device: np.concatenate([w.ravel() for w in flat(each).values()]) for device, each in heads.items()
    }
    middle = np.median(np.stack(list(vectors.values())), axis=0)
    distance = {device: float(np.linalg.norm(vector - middle)) for device, vector in vectors.items()}
    most = _FAR_TIMES * float(np.median(list(distance.values()))) + 1e-9
    return {device: each for device, each in heads.items() if distance[device] <= most}
