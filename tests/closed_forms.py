"""What theory says of a channel, and what has to be sent over it to see: shared by tests and benchmark.

Bit error rates are those of Gray QPSK (Proakis and Salehi, Digital Communications, 5th ed., 4.3 and 13.3).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

#: Two bits make a QPSK symbol: Es/N0 is Eb/N0 and this [dB].
EBN0_TO_SNR_DB = 10.0 * math.log10(2.0)
_REAL_RMS = math.sqrt(0.5)


def awgn_bit_error_rate(ebn0_db: float) -> float:
    """Q(sqrt(2 Eb/N0))."""
    return 0.5 * math.erfc(math.sqrt(10.0 ** (ebn0_db / 10.0)))


def rayleigh_bit_error_rate(ebn0_db: float) -> float:
    """(1 - sqrt(g / (1 + g))) / 2 at a mean Eb/N0 of g, whatever the fading's pace."""
    gamma = 10.0 ** (ebn0_db / 10.0)
    return 0.5 * (1.0 - math.sqrt(gamma / (1.0 + gamma)))


def gaussian_error(snr_db: float) -> float:
    """Least mean square error of Gaussian symbols sent as they are, over their variance: 1 / (1 + SNR)."""
    return 1.0 / (1.0 + math.pow(10.0, snr_db / 10.0))


def qpsk(rng: np.random.Generator, token_length: int, channel_dim: int) -> npt.NDArray[np.float32]:
    """Random Gray QPSK at Es = 1, one bit per real; float32, [token_length, channel_dim]."""
    bits = rng.integers(0, 2, (token_length, channel_dim))
    return ((2.0 * bits - 1.0) * _REAL_RMS).astype(np.float32)


def gaussian(rng: np.random.Generator, token_length: int, channel_dim: int) -> npt.NDArray[np.float32]:
    """Random Gaussian symbols at Es = 1; float32, [token_length, channel_dim]."""
    return (rng.standard_normal((token_length, channel_dim)) * _REAL_RMS).astype(np.float32)


def bit_errors_per_symbol(
    x_TC: npt.NDArray[np.float32], received_TC: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Share of wrong bits of each symbol, [T, C/2]: bits of a symbol share a gain and are not independent."""
    half = x_TC.shape[1] // 2
    wrong = ((x_TC > 0) != (received_TC > 0)).astype(np.float64)
    return np.asarray((wrong[:, :half] + wrong[:, half:]) / 2.0, np.float64)


def mean_and_standard_error(values: npt.ArrayLike) -> tuple[float, float]:
    """Of independent values."""
    samples = np.asarray(values, np.float64).ravel()
    return float(samples.mean()), float(samples.std(ddof=1) / math.sqrt(samples.size))
