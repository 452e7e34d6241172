"""An amplifier that saturates: peaks of the OFDM signal are cut, and what is cut falls back into the band.

    grid ─inverse DFT, oversampled─▶ signal ─amplitude cut at A─▶ DFT ─▶ grid, as it leaves the antenna

A sum of many subcarriers is near Gaussian, so its peaks are far above its mean power (PAPR), and an
amplifier that is built for the peaks is built for a power that it hardly ever sends. The usual model of one
that is not: a soft limiter, x min(1, A / |x|), with A^2 a stated number of dB above the mean power (Dardari,
Tralli and Vaccari, "A theoretical characterization of nonlinear distortion effects in OFDM systems", IEEE
Trans. Commun. 48 (10), 2000). What falls outside the band is filtered away.

Shapes: N OFDM symbols, K subcarriers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from device_agent.channel.application import power
from device_agent.channel.sampling import Complex

OVERSAMPLING = 4
"""Samples per subcarrier: with fewer, peaks between samples are missed."""


def peak_to_average_db(grid_NK: Complex) -> npt.NDArray[np.float64]:
    """PAPR of each OFDM symbol [dB], (N,)."""
    power_NS = power(_signal(grid_NK)).astype(np.float64)
    ratio_db: npt.NDArray[np.float64] = 10.0 * np.log10(power_NS.max(axis=1) / power_NS.mean(axis=1))
    return ratio_db


def scrambled(grid_NK: Complex) -> Complex:
    """Each resource element turned by a quarter turn or more that both sides know.

    Tokens of one codeword are alike; sent as they are, subcarriers add up in phase and peaks are higher than
    those of random symbols. Bits are scrambled for the same reason (TS 38.211, 6.3.1.1).
    """
    turned: Complex = (grid_NK * _turns(grid_NK.shape)).astype(np.complex64)
    return turned


def _turns(shape: tuple[int, ...]) -> Complex:
    quarters = np.random.default_rng(0).integers(0, 4, shape)
    turns: Complex = np.array([1, 1j, -1, -1j], np.complex64)[quarters]
    return turns


def clip(grid_NK: Complex, clip_db: float) -> Complex:
    """What leaves an amplifier, scrambled for it and turned back.

    Args:
        grid_NK: every resource element of a codeword, filled.
        clip_db: power at which it saturates, over the mean power of the codeword [dB].

    Returns:
        complex64 [N, K]; of less power by what was cut.
    """
    signal_NS = _signal(scrambled(grid_NK))
    size_NS = np.abs(signal_NS)
    limit = float(np.sqrt((size_NS**2).mean())) * 10.0 ** (clip_db / 20.0)
    cut_NS = signal_NS * np.minimum(1.0, limit / np.maximum(size_NS, 1e-30))
    spectrum_NS = np.fft.fft(cut_NS, axis=1)
    sent: Complex = spectrum_NS[:, : grid_NK.shape[1]].astype(np.complex64)
    return sent * _turns(grid_NK.shape).conj()


def _signal(grid_NK: Complex) -> npt.NDArray[np.complex128]:
    """[N, 4 K] samples. Where the band lies turns them all alike, which changes no size."""
    signal: npt.NDArray[np.complex128] = np.fft.ifft(grid_NK, OVERSAMPLING * grid_NK.shape[1], axis=1)
    return signal
