"""Analog tokens, with and without the feedback that a digital link has.

Without: one burst. With: a modality whose receptions, combined by maximum ratio, are still below a threshold
comes again, as the server's rounds do (:mod:`edge_server.cell.rounds`). What receptions of the same tokens
amount to is one reception at the sum of their SNRs (Brennan 1959), so that is what is drawn.

Shapes: N clips, R rounds, H halves of a burst: one of each modality; T tokens, C reals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from device_agent.channel import Channel, ChannelConfig
from edge_server.study.semantic.asked import restored
from edge_server.study.semantic.description import Restored, Tokens
from edge_server.study.semantic.outage import Reals, rounds_needed

_THRESHOLDS_DB = (-math.inf, *(float(step) for step in range(-20, 21)), math.inf)


@dataclass(frozen=True)
class Repeats:
    """How often analog tokens come.

    Attributes:
        token_length: tokens per modality.
        threshold_db: SNR below which they come again [dB]; minus infinity: once, infinity: always.
    """

    token_length: int
    threshold_db: float

    def rounds(self, snr_NRH: Reals) -> npt.NDArray[np.int64]:
        """Bursts of each modality, [N, H]."""
        summed = np.cumsum(snr_NRH, axis=1)
        enough = summed >= 10 ** (self.threshold_db / 10)
        return np.stack([rounds_needed(enough[:, :, half]) for half in range(snr_NRH.shape[2])], axis=1)

    def uses(self, rounds_NH: npt.NDArray[np.int64], channel_dim: int) -> float:
        """Channel uses in the mean."""
        return float(rounds_NH.sum(axis=1).mean()) * self.token_length * channel_dim / 2


def most_repeats(token_length: int, snr_NRH: Reals, budget: float, channel_dim: int) -> Repeats | None:
    """The highest threshold that so many channel uses in the mean allow; None: not even one burst."""
    fitting = [
        repeats
        for repeats in (Repeats(token_length, threshold) for threshold in _THRESHOLDS_DB)
        if repeats.uses(repeats.rounds(snr_NRH), channel_dim) <= budget
    ]
    return fitting[-1] if fitting else None


def received(sent: Tokens, snr_NRH: Reals, rounds_NH: npt.NDArray[np.int64], seed: int) -> Restored:
    """Tokens after so many bursts each, combined.

    Args:
        sent: of each slot, [N, T, C]; each slot has its half of a burst.
        snr_NRH: of each burst, linear.
        rounds_NH: bursts of each modality that were sent.
        seed: of the noise.
    """
    summed = np.cumsum(snr_NRH, axis=1)
    parts = {}
    for half, (slot, x_NTC) in enumerate(sent.items()):
        tokens, told = [], []
        for clip, x_TC in enumerate(x_NTC.numpy()):
            total = summed[clip, rounds_NH[clip, half] - 1, half]
            air = ChannelConfig(model="awgn", snr_db=max(10 * math.log10(max(total, 1e-9)), -60.0))
            reception = Channel(air, np.random.default_rng([seed, clip, half])).transmit(x_TC)
            tokens.append(reception.x_TC)
            told.append(reception.told_db())
        parts[slot] = (torch.from_numpy(np.stack(tokens)), torch.from_numpy(np.stack(told)))
    return restored(parts)
