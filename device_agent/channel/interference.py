"""A neighbour on the same resource: another device's codeword, through a gain of its own, on top of ours.

    y = h s + g u / sqrt(sir) + sqrt(n0) w          u ~ CN(0, 1), E|g|^2 = 1

Neighbours send what we send, unit-energy analog symbols, so theirs are drawn as what those look like:
Gaussian. The receiver cannot tell them from noise. It knows how strong they are in the mean over a codeword,
as a base station measures it, and equalises with noise and interference together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from device_agent.channel.application import power
from device_agent.channel.models import ChannelModel
from device_agent.channel.sampling import Complex, sample_gain, sample_noise
from protos.names import FadingName


class Interference(NamedTuple):
    """What a neighbour adds.

    Attributes:
        z_TS: to each symbol, complex64 [T, C/2].
        power: its mean over the codeword, of a unit-energy symbol's.
    """

    z_TS: Complex
    power: float


def neighbour(
    model: ChannelModel, fading: FadingName, shape: tuple[int, int], sir_db: float, rng: np.random.Generator
) -> Interference:
    """Draw a neighbour's codeword as it arrives.

    Args:
        model: of its channel, as ours.
        fading: as ours.
        shape: of our symbols, (T, C/2).
        sir_db: our mean power over the neighbour's, before our transmit power [dB].
        rng: of its gains and symbols.
    """
    g = sample_gain(model, fading, shape, rng) * np.float32(10.0 ** (-sir_db / 20.0))
    return Interference(g * sample_noise(shape, rng), float(power(g).mean(dtype=np.float64)))
