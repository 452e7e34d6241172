"""Drawing noise and gains with a numpy generator.

The one that is passed in: no global randomness, so a seed repeats a run exactly.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from device_agent.channel.models import ChannelModel
from protos.names import FadingName

Complex: TypeAlias = npt.NDArray[np.complex64]


def sample_noise(shape: tuple[int, ...], rng: np.random.Generator) -> Complex:
    """Circular complex Gaussian CN(0, 1): variance 1/2 in each of the two dimensions.

    Returns:
        complex64 of ``shape``.
    """
    pairs = rng.standard_normal((*shape, 2), dtype=np.float32) * np.float32(0.5**0.5)
    noise: Complex = pairs.view(np.complex64)[..., 0]
    return noise


class NumpyDraws:
    """Implements :class:`device_agent.channel.models.Draws`."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def normal(self, shape: tuple[int, ...]) -> Complex:
        """CN(0, 1), complex64."""
        return sample_noise(shape, self._rng)

    def phasor(self, shape: tuple[int, ...]) -> npt.NDArray[np.complex128]:
        """e^(j phi), complex128."""
        phasors: npt.NDArray[np.complex128] = np.exp(1j * self._rng.uniform(0.0, 2.0 * np.pi, shape))
        return phasors

    def ones(self, shape: tuple[int, ...]) -> Complex:
        """1, complex64."""
        return np.ones(shape, np.complex64)

    def constant(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The same."""
        return values

    def turned(self, angles: npt.NDArray[np.float64]) -> npt.NDArray[np.complex128]:
        """e^(j angle), complex128."""
        turned: npt.NDArray[np.complex128] = np.exp(1j * angles)
        return turned


def gain_shapes(
    shape: tuple[int, ...], fading: FadingName, *, selective: bool = False
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes with one value per codeword and with one per gain.

    Args:
        shape: of the symbols, [..., T, C/2]; leading axes are codewords.
        fading: ``block``: one gain per codeword; ``fast``: one per symbol.
        selective: one per symbol anyway.
    """
    codewords = (*shape[:-2], 1, 1)
    return codewords, codewords if fading == "block" and not selective else shape


def sample_gain(
    model: ChannelModel, fading: FadingName, shape: tuple[int, ...], rng: np.random.Generator
) -> Complex:
    """Complex gains with E|h|^2 = 1.

    Args:
        model: how they fall.
        fading: ``block``: one gain per codeword; ``fast``: one per symbol.
        shape: of the symbols, [..., T, C/2]; leading axes are codewords.
        rng: the generator.

    Returns:
        complex64, [..., 1, 1] for ``block`` and for a constant gain, else ``shape``.
    """
    h: Complex = model.sample(NumpyDraws(rng), *gain_shapes(shape, fading, selective=model.selective)).astype(
        np.complex64, copy=False
    )
    return h
