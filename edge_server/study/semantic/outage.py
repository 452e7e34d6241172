"""Gains of bursts, and what an ideal code makes of them: mutual information adds up over rounds.

A question's burst meets two gains, as the two codewords of a shipped device do: half of its channel uses
each. Rounds come so far apart that each meets new ones, or so close that all meet the same one.

Shapes: N questions, R rounds, H halves of a burst.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from device_agent.channel import channel_model, n0_from_snr_db, power, sample_gain
from protos.names import ChannelName

Spread: TypeAlias = Literal["fresh", "same"]
"""``fresh``: two new gains each round. ``same``: one gain for all that belongs to a question."""
Reals: TypeAlias = npt.NDArray[np.float64]

HALVES = 2
MOST_ROUNDS = 4
"""The first burst and three more: so often a server asks a device at most for the same tokens."""


@dataclass(frozen=True)
class Air:
    """What bursts meet.

    Attributes:
        channel: model of the gains.
        spread: which of them are new.
        snr_db: mean Es/N0 [dB].
    """

    channel: ChannelName = "rayleigh"
    spread: Spread = "fresh"
    snr_db: float = 0.0

    def meet(self, questions: int, seed: int, rounds: int = MOST_ROUNDS) -> Reals:
        """SNR of each half of each burst, linear, [N, R, H]: known to the receiver, not to the sender."""
        rng = np.random.default_rng([seed, 1])
        drawn = (questions, rounds, HALVES) if self.spread == "fresh" else (questions, 1, 1)
        gain = power(sample_gain(channel_model(self.channel), "fast", drawn, rng))
        whole = np.broadcast_to(gain, (questions, rounds, HALVES))
        return np.asarray(whole / float(n0_from_snr_db(self.snr_db)), np.float64)


def information(snr_NRH: Reals, uses: float) -> Reals:
    """Bits that an ideal code has got across after each round, [N, R].

    With incremental redundancy mutual information adds up over rounds (Caire and Tuninetti 2001, eq. 7).

    Args:
        snr_NRH: of each half burst, linear.
        uses: channel uses of a burst.
    """
    return np.asarray(np.cumsum(np.log2(1.0 + snr_NRH).mean(axis=2), axis=1) * uses)


def rounds_needed(there_NR: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """The first round after which it is there, 1 to R, [N]; R where it never is."""
    rounds = there_NR.shape[1]
    return np.asarray(np.where(there_NR.any(axis=1), there_NR.argmax(axis=1) + 1, rounds), np.int64)


@dataclass(frozen=True)
class Delivered:
    """How codewords fared.

    Attributes:
        rounds_N: bursts that were sent.
        through_N: whether it was decoded in the end.
    """

    rounds_N: npt.NDArray[np.int64]
    through_N: npt.NDArray[np.bool_]


def ideal(snr_NRH: Reals, uses: float, bits: float, gap_db: float = 0.0) -> Delivered:
    """What becomes of codewords of an ideal code, or of one that needs so much more SNR [dB]."""
    there_NR = information(snr_NRH / 10 ** (gap_db / 10), uses) >= bits
    return Delivered(rounds_needed(there_NR), there_NR[:, -1])
