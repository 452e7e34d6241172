"""Drawing noise and gains with a numpy generator.

The one that is passed in: no global randomness, so a seed repeats a run exactly.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from protos.names import ChannelName, FadingName

Complex: TypeAlias = npt.NDArray[np.complex64]


def sample_noise(shape: tuple[int, ...], rng: np.random.Generator) -> Complex:
    """Circular complex Gaussian CN(0, 1): variance 1/2 in each of the two dimensions.

    Returns:
        complex64 of ``shape``.
    """
    pairs = rng.standard_normal((*shape, 2), dtype=np.float32) * np.float32(0.5**0.5)
    noise: Complex = pairs.view(np.complex64)[..., 0]
    return noise


def gain_paths(model: ChannelName, k_factor_db: float) -> tuple[float, float]:
    """What a gain is made of: h = a e^(j phi) + sqrt(v) CN(0, 1) with a^2 + v = 1.

    Returns:
        amplitude a of the path that does not fade, and power v of the scattered ones.
    """
    if model in ("none", "awgn"):
        return 1.0, 0.0
    if model == "rayleigh":
        return 0.0, 1.0
    k = 10.0 ** (k_factor_db / 10.0)
    return (k / (k + 1.0)) ** 0.5, 1.0 / (k + 1.0)


def sample_gain(
    model: ChannelName,
    fading: FadingName,
    shape: tuple[int, ...],
    rng: np.random.Generator,
    k_factor_db: float = 6.0,
) -> Complex:
    """Complex gains with E|h|^2 = 1.

    Rayleigh is CN(0, 1). Rician adds a line-of-sight path of fixed power and uniformly random phase:
    h = sqrt(K / (K + 1)) e^(j phi) + sqrt(1 / (K + 1)) CN(0, 1); the phase is one per codeword, also under
    fast fading, because the geometry does not change from symbol to symbol.

    Args:
        model: ``none`` and ``awgn`` have a gain of 1.
        fading: ``block``: one gain per codeword; ``fast``: one per symbol.
        shape: of the symbols, [..., T, C/2]; leading axes are codewords.
        rng: the generator.
        k_factor_db: power of the line-of-sight path over that of the scattered ones, Rician only [dB].

    Returns:
        complex64, [..., 1, 1] for ``block`` and for a constant gain, else ``shape``.
    """
    codewords = (*shape[:-2], 1, 1)
    if model in ("none", "awgn"):
        return np.ones(codewords, np.complex64)
    scattered = sample_noise(codewords if fading == "block" else shape, rng)
    if model == "rayleigh":
        return scattered
    amplitude, variance = gain_paths(model, k_factor_db)
    phase = rng.uniform(0.0, 2.0 * np.pi, codewords)
    h: Complex = (amplitude * np.exp(1j * phase) + variance**0.5 * scattered).astype(np.complex64)
    return h
