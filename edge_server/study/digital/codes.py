"""Channel codes as the digital baselines see them: which codewords there are, and how often one is lost.

Two: 5G LDPC with QAM as simulated, and an ideal code, which gets through wherever Shannon's bound allows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from device_agent.channel import ChannelConfig
from edge_server.errors import ConfigurationError
from edge_server.study.digital.error_table import ErrorTable
from edge_server.study.digital.mcs import MCS_TABLE, Mcs
from protos.names import FadingName

#: Odds of an outage that an ideal code may choose to bear under block fading.
_OUTAGES = (0.001, 0.003, 0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
#: Gains of Rayleigh block fading that stand for all of them, each as likely as the others.
_GAINS = -np.log1p(-(np.arange(1024) + 0.5) / 1024)


@dataclass(frozen=True)
class Codeword:
    """What can be sent: a code, how long, how much it holds."""

    name: str
    """Of modulation and rate."""
    channel_uses: int
    """Complex symbols."""
    bits: int
    """Information bits."""
    mcs: Mcs | None = None
    """None for an ideal code."""


class Code(Protocol):
    """A family of codewords."""

    def codewords(self, channel_uses: int, channel: ChannelConfig) -> tuple[Codeword, ...]:
        """Those that may be worth sending over a channel, with ever more bits."""
        ...

    def loss(self, word: Codeword, channel: ChannelConfig, snr_db: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Probability that a codeword is lost.

        Args:
            word: what is sent.
            channel: its model and fading.
            snr_db: Es/N0 [dB], any shape: the instantaneous one under block fading, else the mean.
        """
        ...


class LdpcQam:
    """5G LDPC with QAM, by its table of simulated block error rates."""

    def __init__(self, table: ErrorTable) -> None:
        self.table = table

    def codewords(self, channel_uses: int, channel: ChannelConfig) -> tuple[Codeword, ...]:
        """See :class:`Code`.

        Raises:
            ConfigurationError: the table has no codewords of that length.
        """
        kind = _kind(channel)
        words = [
            Codeword(mcs.name, channel_uses, mcs.bits(channel_uses), mcs)
            for mcs in MCS_TABLE
            if self.table.get(kind, channel_uses, mcs) is not None
        ]
        if not words:
            raise ConfigurationError(
                f"channel_uses is {channel_uses}; {self.table.path} has {self.table.channel_uses()} "
                f"over {kind}"
            )
        return worth_sending(self, words, channel)

    def loss(self, word: Codeword, channel: ChannelConfig, snr_db: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """See :class:`Code`."""
        waterfall = self.table.get(_kind(channel), word.channel_uses, word.mcs) if word.mcs else None
        if waterfall is None:
            raise ConfigurationError(f"codeword {word.name} of {word.channel_uses} channel uses: no table")
        return waterfall.rate(snr_db)


class IdealCode:
    """A code that reaches capacity at any length: what no digital scheme can beat."""

    def codewords(self, channel_uses: int, channel: ChannelConfig) -> tuple[Codeword, ...]:
        """See :class:`Code`."""
        if channel.model != "awgn" and channel.fading == "block":
            gains_db = 10 * np.log10(-np.log1p(-np.asarray(_OUTAGES)))
            capacities = capacity_bits(channel_uses, channel.snr_db + gains_db)
        else:
            capacities = np.atleast_1d(capacity_bits(channel_uses, channel.snr_db, _fading(channel)))
        return tuple(
            Codeword(f"ideal-{int(bits)}", channel_uses, int(bits)) for bits in capacities if bits >= 1
        )

    def loss(self, word: Codeword, channel: ChannelConfig, snr_db: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """See :class:`Code`: 0 up to capacity, 1 beyond."""
        capacity = capacity_bits(word.channel_uses, snr_db, _fading(channel))
        return np.where(word.bits <= capacity + 1e-9, 0.0, 1.0)


def mean_loss(code: Code, word: Codeword, channel: ChannelConfig) -> float:
    """Probability that a codeword is lost, over the gains of block fading too."""
    if channel.model == "awgn" or channel.fading == "fast":
        return float(code.loss(word, channel, channel.snr_db))
    return float(code.loss(word, channel, channel.snr_db + 10 * np.log10(_GAINS)).mean())


def worth_sending(code: Code, words: Sequence[Codeword], channel: ChannelConfig) -> tuple[Codeword, ...]:
    """Leave out codewords that are all but surely lost, and those that another one beats in both ways."""
    kept: list[Codeword] = []
    lowest = 0.999
    for word in sorted(words, key=lambda word: -word.bits):
        loss = mean_loss(code, word, channel)
        if loss < lowest:
            kept.append(word)
            lowest = loss
    return tuple(reversed(kept))


def capacity_bits(
    channel_uses: int, snr_db: npt.ArrayLike, fading: FadingName = "block"
) -> npt.NDArray[np.float64]:
    """Bits that an ideal code carries (Shannon 1948).

    Args:
        channel_uses: complex symbols.
        snr_db: Es/N0 [dB], any shape. Without fading and under ``block`` fading the (instantaneous) SNR of
            the codeword: n log2(1 + SNR); a codeword with more bits is in outage.
        fading: ``fast``: ``snr_db`` is the mean over Rayleigh gains, one per symbol, that the receiver knows:
            the ergodic capacity n E[log2(1 + |h|^2 SNR)] (Goldsmith and Varaiya 1997).
    """
    snr = 10.0 ** (np.asarray(snr_db, np.float64) / 10)
    if fading == "block":
        return np.asarray(channel_uses * np.log2(1 + snr))
    # E over |h|^2 ~ Exp(1), integrated over its logarithm, where the integrand falls off on both sides.
    log_gain = np.linspace(-40.0, 5.0, 2001)
    gain = np.exp(log_gain)
    values = np.log2(1 + snr[..., None] * gain) * np.exp(-gain) * gain
    return np.asarray(channel_uses * values.sum(axis=-1) * (log_gain[1] - log_gain[0]))


def snr_db_of_capacity(bits_per_use: float, fading: FadingName = "block") -> float:
    """The SNR at which capacity is so many bits per channel use [dB]."""
    if fading == "block":
        return 10 * math.log10(2**bits_per_use - 1)
    grid_db = np.linspace(-40.0, 80.0, 2401)
    return float(np.interp(bits_per_use, capacity_bits(1, grid_db, fading), grid_db))


def _kind(channel: ChannelConfig) -> str:
    """Which simulated channel a channel is, at a given SNR of the codeword."""
    if channel.model == "awgn" or (channel.model == "rayleigh" and channel.fading == "block"):
        return "awgn"
    if channel.model == "rayleigh":
        return "rayleigh"
    raise ConfigurationError(f"channel model is {channel.model!r}; digital baselines know awgn and rayleigh")


def _fading(channel: ChannelConfig) -> FadingName:
    return "fast" if _kind(channel) == "rayleigh" else "block"
