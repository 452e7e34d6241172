"""Receptions of tokens put together: of the same ones by maximum ratio, of further ones one behind another.

A block arrives as what equalisation left of it, x, and an SNR, gamma = |h|^2 / N0. Undone of MMSE's shrinking
it is z = s + noise of variance 1 / gamma, and receptions of the same symbols s are best added by the weights
gamma (maximum ratio combining, Brennan 1959): the sum has the SNR that all have together,

    Gamma = sum gamma_i        z = sum gamma_i z_i / Gamma

A model's receivers learned what MMSE leaves, x = z gamma / (1 + gamma), so that is what is made of it again:

    x = sum (1 + gamma_i) x_i / (1 + Gamma)      of MMSE
    x = sum gamma_i x_i / Gamma                  of zero-forcing

Exact for block fading; where every symbol has a gain of its own, weights are those of their mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Segment:
    """Tokens of one block that were sent together.

    Attributes:
        x_TC: float32, [tokens, channel_dim], as equalisation left them.
        snr_db: Es/N0 after equalisation, all receptions together [dB].
        zero_forcing: that they were equalised so, and not by MMSE.
        receptions: how often they came.
    """

    x_TC: npt.NDArray[np.float32]
    snr_db: float
    zero_forcing: bool = False
    receptions: int = 1

    def again(self, other: Segment) -> Segment:
        """With another reception of the same tokens.

        Raises:
            ValueError: they are not as many, or not equalised alike.
        """
        if self.x_TC.shape != other.x_TC.shape or self.zero_forcing != other.zero_forcing:
            raise ValueError("receptions of the same tokens differ in shape or equaliser")
        gammas = [_linear(each.snr_db) for each in (self, other)]
        rest = 0.0 if self.zero_forcing else 1.0
        weights = [(rest + gamma) / (rest + sum(gammas)) for gamma in gammas]
        combined = weights[0] * self.x_TC + weights[1] * other.x_TC
        return Segment(
            combined.astype(np.float32),
            10.0 * math.log10(sum(gammas)),
            self.zero_forcing,
            self.receptions + other.receptions,
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

    def with_more(self, segment: Segment) -> ReceivedBlock:
        """With further tokens behind those that are there."""
        return ReceivedBlock((*self.segments, segment))

    def with_again(self, segment: Segment) -> ReceivedBlock:
        """With the tokens that came last received once more; raises as :meth:`Segment.again`."""
        return replace(self, segments=(*self.segments[:-1], self.last.again(segment)))


def _linear(snr_db: float) -> float:
    return float(10.0 ** (snr_db / 10.0))
