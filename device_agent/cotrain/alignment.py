"""Where a head begins in a world that looks otherwise to its encoder: such that it sees what it is used to.

    own clips ─▶ features ─▶ selected, normalised ─▶ mean, deviation ─┐
    the edge ─▶ those of what the head was made for ──────────────────┴▶ norm.weight, norm.bias

Each feature is scaled and moved as if by a batch normalisation that knows the world of the device; that needs
no answer to any question. Source: Li et al. 2016, "Revisiting batch normalization for practical domain
adaptation".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device_agent.errors import UplinkError
from protos.tokenlink.v1 import cotrain_pb2 as cpb

Array = npt.NDArray[np.float32]
MOST_CLIPS = 64
"""Whose features are looked at: each has many tokens."""
_MOST_TIMES = 8.0
"""No feature is scaled by more, or by less than its inverse."""
_EPSILON = 1e-5
"""Of the head's normalisation, and under deviations."""


@dataclass(frozen=True)
class UsualFeatures:
    """What a head saw until now, before any weight.

    Attributes:
        selection_TP: of encoder tokens.
        mean_D: by feature.
        deviation_D: by feature.
    """

    selection_TP: Array
    mean_D: Array
    deviation_D: Array

    @classmethod
    def read(cls, told: cpb.UsualFeatures, patches: int, width: int) -> UsualFeatures:
        """From the wire, for an encoder with so many tokens of that width.

        Raises:
            UplinkError: it is not of such an encoder, or not finite.
        """
        if len(told.selection) != 4 * told.token_length * patches or not told.token_length:
            raise UplinkError(
                f"usual.selection has {len(told.selection)} bytes; {told.token_length} x {patches} float32"
            )
        found = cls(
            np.frombuffer(told.selection, "<f4").reshape(told.token_length, patches),
            np.array(told.mean, np.float32),
            np.array(told.deviation, np.float32),
        )
        for name, each in (("mean", found.mean_D), ("deviation", found.deviation_D)):
            if len(each) != width:
                raise UplinkError(f"usual.{name} has {len(each)} features; {width} are encoded")
        if not all(np.isfinite(each).all() for each in (found.selection_TP, found.mean_D, found.deviation_D)):
            raise UplinkError("usual: not all of it is finite")
        return found

    def normalised(self, features_PD: Array) -> Array:
        """What a head makes of features before any weight, [T, D]."""
        pooled = self.selection_TP @ features_PD
        centred = pooled - pooled.mean(axis=-1, keepdims=True)
        made: Array = centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + _EPSILON)
        return made


def aligned(
    weights: Mapping[str, Array], features: Sequence[Array], usual: UsualFeatures, share: float
) -> dict[str, Array]:
    """A head's weights, such that what it sees of these clips has mean and deviation as usual.

    Args:
        weights: of the head; those of its normalisation, norm.weight and norm.bias [D], change.
        features: of some clips, [P, D] each.
        usual: what it is used to.
        share: how far, from 0 to 1.
    """
    seen_ND = np.concatenate([usual.normalised(each) for each in features])
    mean_D, deviation_D = seen_ND.mean(axis=0), seen_ND.std(axis=0)
    times_D = (usual.deviation_D + _EPSILON) / (deviation_D + _EPSILON)
    scale_D = np.clip(times_D, 1.0 / _MOST_TIMES, _MOST_TIMES) ** share
    wanted_D = mean_D + share * (usual.mean_D - mean_D)
    made = {name: each.copy() for name, each in weights.items()}
    made["norm.bias"] += weights["norm.weight"] * (wanted_D - scale_D * mean_D)
    made["norm.weight"] *= scale_D
    return made
