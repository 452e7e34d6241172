"""Tokens as a few bits: residual vector quantisation, fitted on what the device sends of other clips.

    x_TC ─▶ S codes a token, from books of 64 ─▶ bits of both modalities, one after the other ─▶ x_TC

Nothing is trained: books are k-means of tokens and of what is left over of them
(:class:`edge_server.model.split.compression.ResidualVq`). Restored tokens are means of what is near them, so
they stand to what was sent as an MMSE equaliser's symbols do: with distortion D the receiver is told the SNR
1 / D - 1, as it learned to be.

Shapes: N clips, T tokens, C reals, S stages, B bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from edge_server.model.split.compression import ResidualVq
from protos.names import clamp_snr_db

CODES = 64
"""Of each book."""
BITS_PER_CODE = 6
_BITS = torch.arange(BITS_PER_CODE - 1, -1, -1)
#: Bits of each code, the highest first, [CODES, 6].
_PATTERNS = (torch.arange(CODES)[:, None] >> _BITS) & 1

Tokens: TypeAlias = Mapping[str, Tensor]
"""Of each slot, [N, T, C]."""


@dataclass(frozen=True)
class Form:
    """What is quantised, and how finely."""

    token_length: int
    """Tokens per modality."""
    stages: int
    """Codes per token."""


@dataclass(frozen=True)
class Restored:
    """Tokens at the server.

    Attributes:
        x: of each slot, [N, T, C].
        told_db: what the receiver is told of each token, of each slot, [N, T] [dB].
    """

    x: Tokens
    told_db: Tokens


@dataclass(frozen=True)
class Description:
    """Both modalities' tokens as bits.

    Attributes:
        form: of them.
        books: of each slot, as many stages as the form has.
        distortion: of each slot: mean square error over mean square, of what the books were fitted to.
        power: of each slot: mean square of its reals.
        odds: of each slot, how often each code is at each place, [T, S, CODES].
    """

    form: Form
    books: Mapping[str, ResidualVq]
    distortion: Mapping[str, float]
    power: Mapping[str, float]
    odds: Mapping[str, Tensor]

    @classmethod
    def fit(cls, sent: Tokens, form: Form, whole: Mapping[str, ResidualVq]) -> Description:
        """The description that begins as ``whole`` does, a quantiser of at least as many stages."""
        books = {slot: ResidualVq(whole[slot].books[: form.stages]) for slot in sent}
        distortion, power, odds = {}, {}, {}
        for slot, x_NTC in sent.items():
            flat = x_NTC.flatten(0, 1)
            codes = books[slot].encode(flat)
            power[slot] = float(flat.square().mean())
            distortion[slot] = float((books[slot].decode(codes) - flat).square().mean()) / power[slot]
            placed = codes.reshape(len(x_NTC), form.token_length, form.stages)
            counts = torch.nn.functional.one_hot(placed, CODES).sum(dim=0) + 0.5
            odds[slot] = counts / counts.sum(dim=-1, keepdim=True)
        return cls(form, books, distortion, power, odds)

    @property
    def bits(self) -> int:
        """Of one clip, before any check."""
        return len(self.books) * self.form.token_length * self.form.stages * BITS_PER_CODE

    def codes(self, sent: Tokens) -> dict[str, Tensor]:
        """Of each slot, int64 [N, T, S]."""
        return {
            slot: self.books[slot].encode(x.flatten(0, 1)).reshape(len(x), -1, self.form.stages)
            for slot, x in sent.items()
        }

    def entropy_bits(self, sent: Tokens) -> float:
        """Bits in the mean that an ideal entropy code would take, told the odds of each place."""
        total = 0.0
        for slot, codes_NTS in self.codes(sent).items():
            odds = self.odds[slot].expand(len(codes_NTS), -1, -1, -1)
            total += float(-odds.gather(-1, codes_NTS[..., None]).log2().sum()) / len(codes_NTS)
        return total

    def to_bits(self, sent: Tokens) -> Tensor:
        """One row of zeros and ones for each clip, float32 [N, B]."""
        rows = [_PATTERNS[codes].flatten(1) for codes in self.codes(sent).values()]
        return torch.cat(rows, dim=1).float()

    def restore(self, bits_NB: Tensor) -> Restored:
        """Tokens of bits that were decided."""
        x, told = {}, {}
        for slot, placed in self._placed(bits_NB).items():
            codes = (placed.long() << _BITS).sum(dim=-1)
            count, length, stages = codes.shape
            restored = self.books[slot].decode(codes.reshape(-1, stages))
            x[slot] = restored.reshape(count, length, -1)
            told[slot] = torch.full((count, length), _told_db(self.distortion[slot]))
        return Restored(x, told)

    def expect(self, llr_NB: Tensor) -> Restored:
        """What tokens are in the mean, given how likely each bit is.

        Args:
            llr_NB: ln p(1)/p(0), bits being independent of one another.
        """
        x, told = {}, {}
        for slot, placed in self._placed(llr_NB).items():
            one, zero = (torch.nn.functional.logsigmoid(sign * placed)[..., None, :] for sign in (1, -1))
            odds_NTSK = torch.where(_PATTERNS == 1, one, zero).sum(dim=-1).exp()
            mean = torch.zeros(())
            variance = torch.zeros(())
            for stage, book_KC in enumerate(self.books[slot].books):
                odds_NTK = odds_NTSK[:, :, stage, : len(book_KC)]
                odds_NTK = odds_NTK / odds_NTK.sum(dim=-1, keepdim=True)
                of_stage = torch.matmul(odds_NTK, book_KC)
                square = torch.matmul(odds_NTK, book_KC.square().mean(dim=1))
                mean = mean + of_stage
                variance = variance + (square - of_stage.square().mean(dim=-1)).clamp(min=0.0)
            x[slot] = mean
            left = variance / self.power[slot] + self.distortion[slot]
            told[slot] = left.apply_(_told_db)
        return Restored(x, told)

    def _placed(self, row_NB: Tensor) -> dict[str, Tensor]:
        """What belongs to each slot, [N, T, S, 6]."""
        shape = (len(row_NB), self.form.token_length, self.form.stages, BITS_PER_CODE)
        parts = row_NB.chunk(len(self.books), dim=1)
        return {slot: part.reshape(shape) for slot, part in zip(self.books, parts, strict=True)}


def fit_books(sent: Tokens, stages: int, seed: int) -> dict[str, ResidualVq]:
    """Quantisers of so many stages, of each slot's tokens at all places together."""
    return {slot: ResidualVq.fit(x.flatten(0, 1), stages, CODES, seed) for slot, x in sent.items()}


def _told_db(distortion: float) -> float:
    return clamp_snr_db(10 * math.log10(max(1 / max(distortion, 1e-12) - 1, 1e-12)))
