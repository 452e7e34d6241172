"""Receptions of tokens put together: of the same ones by maximum ratio, of further ones one behind another.

A block arrives as what equalisation left of it, x, and an SNR, gamma = |h|^2 / N0. Undone of MMSE's shrinking
it is z = s + noise of variance 1 / gamma, and receptions of the same symbols s are best added by the weights
gamma (maximum ratio combining, Brennan 1959): the sum has the SNR that all have together,

    Gamma = sum gamma_i        z = sum gamma_i z_i / Gamma

A model's receivers learned what MMSE leaves, x = z gamma / (1 + gamma), so that is what is made of it again:

    x = sum (1 + gamma_i) x_i / (1 + Gamma)      of MMSE
    x = sum gamma_i x_i / Gamma                  of zero-forcing

Where the SNR of each token is told, that is done token by token. Exact for block fading; where every symbol
has a gain of its own, weights are those of their mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

_Decibels = TypeVar("_Decibels", float, npt.NDArray[np.float64])


@dataclass(frozen=True)
class Segment:
    """Tokens of one block that were sent together.

    Attributes:
        x_TC: float32, [tokens, channel_dim], as equalisation left them.
        snr_db: Es/N0 after equalisation, all receptions together [dB].
        zero_forcing: that they were equalised so, and not by MMSE.
        receptions: how often they came.
        token_snr_db_T: the SNR of each token, [tokens] [dB]; None: snr_db is that of all.
    """

    x_TC: npt.NDArray[np.float32]
    snr_db: float
    zero_forcing: bool = False
    receptions: int = 1
    token_snr_db_T: npt.NDArray[np.float32] | None = None

    def told_db(self) -> npt.NDArray[np.float32]:
        """The SNR of each token, [tokens] [dB]."""
        if self.token_snr_db_T is None:
            return np.full(len(self.x_TC), self.snr_db, np.float32)
        return self.token_snr_db_T

    def again(self, other: Segment) -> Segment:
        """With another reception of the same tokens.

        Raises:
            ValueError: they are not as many, or not equalised alike.
        """
        if self.x_TC.shape != other.x_TC.shape or self.zero_forcing != other.zero_forcing:
            raise ValueError("receptions of the same tokens differ in shape or equaliser")
        both = (self, other)
        rest = 0.0 if self.zero_forcing else 1.0
        gamma_2T1 = np.stack([_linear(each.told_db().astype(np.float64)) for each in both])[..., None]
        total_T1 = gamma_2T1.sum(axis=0)
        weight_2T1 = (rest + gamma_2T1) / (rest + total_T1)
        combined = weight_2T1[0] * self.x_TC + weight_2T1[1] * other.x_TC
        of_each = None
        if any(each.token_snr_db_T is not None for each in both):
            of_each = (10.0 * np.log10(total_T1[:, 0])).astype(np.float32)
        return Segment(
            combined.astype(np.float32),
            10.0 * math.log10(sum(_linear(each.snr_db) for each in both)),
            self.zero_forcing,
            self.receptions + other.receptions,
            of_each,
        )


@dataclass(frozen=True)
class ReceivedBlock:
    """What has come of one modality, in the order of its tokens; at least one segment."""

    segments: tuple[Segment, ...]

    @property
    def token_length(self) -> int:
        """Tokens that are there."""
        return sum(len(segment.x_TC) for segment in self.segments)

    @property
    def last(self) -> Segment:
        """The tokens that came last."""
        return self.segments[-1]

    @property
    def last_begins(self) -> int:
        """Tokens before those."""
        return self.token_length - len(self.last.x_TC)

    def tokens(self) -> npt.NDArray[np.float32]:
        """The whole block, float32 [token_length, channel_dim]."""
        return np.concatenate([segment.x_TC for segment in self.segments])

    def snr_db(self) -> float:
        """Its mean Es/N0 over all tokens, as a receiver is told that of a codeword [dB]."""
        total = sum(_linear(segment.snr_db) * len(segment.x_TC) for segment in self.segments)
        return 10.0 * math.log10(total / self.token_length)

    def token_snr_db(self) -> npt.NDArray[np.float32] | None:
        """The SNR of each token, [token_length] [dB]; None where it was told of no segment."""
        if all(segment.token_snr_db_T is None for segment in self.segments):
            return None
        return np.concatenate([segment.told_db() for segment in self.segments])

    def with_more(self, segment: Segment) -> ReceivedBlock:
        """With further tokens behind those that are there."""
        return ReceivedBlock((*self.segments, segment))

    def with_again(self, segment: Segment) -> ReceivedBlock:
        """With the tokens that came last received once more; raises as :meth:`Segment.again`."""
        return replace(self, segments=(*self.segments[:-1], self.last.again(segment)))


def _linear(snr_db: _Decibels) -> _Decibels:
    linear: _Decibels = 10.0 ** (snr_db / 10.0)
    return linear
