"""Channel state information from pilots: known symbols whose reception tells the gain, at a price.

Pilots are sent within the coherence of each gain, so one gain (block fading) costs ``pilots`` channel uses
per codeword and one gain per symbol (fast fading) costs that many per symbol.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from device_agent.channel.application import apply, power
from device_agent.channel.sampling import Complex, sample_noise

PILOT = np.complex64((1.0 + 1.0j) / 2.0**0.5)
"""The pilot symbol, unit energy like any other."""
_ANGLES = 64
_LARGE_KAPPA = 50.0


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


def expected_power(
    estimate: Complex,
    n0: float | npt.NDArray[np.float64],
    pilots: int,
    amplitude: float,
    variance: float,
) -> npt.NDArray[np.float64]:
    """|h|^2 of each gain as far as its estimate tells: its mean, given the estimate and how the link fades.

    |estimate|^2 will not do: it holds the estimate's own noise, n0 / pilots, and never falls below it. Taking
    that off leaves something that is negative for every second block of a bad link, of which no SNR can be
    told. The conditional mean is what remains: it is unbiased over the link's gains, close to |estimate|^2
    where the pilots are good, and the mean of the link where they say nothing.

    With e = n0 / pilots, g = v / (v + e) and R = |estimate|, h is CN(a e^(j phi) (1 - g) + g estimate, g e)
    for a known phi, and phi given the estimate is a von Mises angle of concentration 2 a R / (v + e), so

        E |h|^2 = g e + a^2 (1 - g)^2 + g^2 R^2 + 2 a R g (1 - g) I1(kappa) / I0(kappa)

    Args:
        estimate: as :func:`estimate_gain` gives it, any shape.
        n0: noise power per complex symbol, or one for each that broadcasts against ``estimate``.
        pilots: that it was made from.
        amplitude: a, of the path that does not fade.
        variance: v, the scattered paths' power; see :meth:`device_agent.channel.models.ChannelModel.paths`.

    Returns:
        float64 of the shape of ``estimate``, at least 0.
    """
    error = n0 / pilots
    weight = variance / (variance + error)
    squared = power(estimate).astype(np.float64)
    if not amplitude:
        scattered: npt.NDArray[np.float64] = weight * error + weight**2 * squared
        return scattered
    size = np.sqrt(squared)
    aligned = _mean_cosine(2.0 * amplitude * size / (variance + error))
    expected: npt.NDArray[np.float64] = (
        weight * error
        + (amplitude * (1.0 - weight)) ** 2
        + weight**2 * squared
        + 2.0 * amplitude * size * weight * (1.0 - weight) * aligned
    )
    return expected


def _mean_cosine(kappa: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """I1(kappa) / I0(kappa), the mean cosine of a von Mises angle."""
    angles = np.linspace(0.0, 2.0 * np.pi, _ANGLES, endpoint=False)
    # Of a smooth periodic function the sum over equal steps is exact to rounding, as long as steps are small
    # beside its peak; beyond that the series in 1 / kappa is.
    near = np.minimum(kappa, _LARGE_KAPPA)[..., np.newaxis]
    density = np.exp(near * (np.cos(angles) - 1.0))
    by_sum = (density * np.cos(angles)).sum(axis=-1) / density.sum(axis=-1)
    far = np.maximum(kappa, _LARGE_KAPPA)
    by_series = 1.0 - 1.0 / (2.0 * far) - 1.0 / (8.0 * far**2) - 1.0 / (8.0 * far**3)
    ratio: npt.NDArray[np.float64] = np.where(kappa <= _LARGE_KAPPA, by_sum, by_series)
    return ratio


def pilot_uses(h: Complex, pilots: int) -> int:
    """Channel uses that the pilots of these gains take."""
    return int(h.size) * pilots
