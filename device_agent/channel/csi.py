"""Channel state information from pilots: known symbols whose reception tells the gain, at a price.

Pilots are sent within the coherence of each gain, so one gain (block fading) costs ``pilots`` channel uses
per codeword and one gain per symbol (fast fading) costs that many per symbol.
"""

from __future__ import annotations

import numpy as np

from device_agent.channel.application import apply
from device_agent.channel.sampling import Complex, sample_noise

PILOT = np.complex64((1.0 + 1.0j) / 2.0**0.5)
"""The pilot symbol, unit energy like any other."""


def estimate_gain(h: Complex, n0: float, pilots: int, rng: np.random.Generator) -> Complex:
    """Least-squares estimate of each gain from pilots sent through it.

    Args:
        h: true gains, any shape.
        n0: noise power per complex symbol.
        pilots: pilots per gain, at least 1.
        rng: the generator of the pilots' noise.

    Returns:
        complex64 of the shape of ``h``: h + CN(0, n0 / pilots).
    """
    sent = np.full((*h.shape, pilots), PILOT)
    received = apply(sent, h[..., np.newaxis], sample_noise(sent.shape, rng), n0)
    estimate: Complex = (received / PILOT).mean(axis=-1).astype(np.complex64)
    return estimate


def pilot_uses(h: Complex, pilots: int) -> int:
    """Channel uses that the pilots of these gains take."""
    return int(h.size) * pilots
