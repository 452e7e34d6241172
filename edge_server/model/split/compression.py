"""Feature tokens in fewer reals or bits, by what is found in tokens of one's own media, without labels.

    x_TE ─÷ rms─▶ PCA: R reals a token ─▶ x_TE        fitted: directions in which tokens differ most
                  residual VQ: S codes a token        fitted: k-means of what the stages before left over
                  blocks: b bits a value, a scale for every 32

Each takes a block of tokens and gives what arrives. Scales are those of the block, as on the wire
(:mod:`edge_server.model.split.scale`); nothing is trained through a model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

#: Values that share a scale, which takes 16 bits.
BLOCK = 32
_SCALE_BITS = 16
_ROUNDS = 12


def normalised(x_TE: Tensor) -> tuple[Tensor, Tensor]:
    """A block at root mean square 1, and what it was."""
    rms = x_TE.square().mean().sqrt().clamp(min=1e-12)
    return x_TE / rms, rms


@dataclass(frozen=True)
class Pca:
    """Principal components of tokens.

    Attributes:
        mean_E: of the tokens that it was fitted on.
        basis_RE: orthonormal directions, those in which they differ most first.
    """

    mean_E: Tensor
    basis_RE: Tensor

    @classmethod
    def fit(cls, x_NE: Tensor, rank: int) -> Pca:
        """The directions in which tokens differ most, at most as many as there are tokens."""
        mean_E = x_NE.mean(dim=0)
        _, _, directions = torch.linalg.svd(x_NE - mean_E, full_matrices=False)
        return cls(mean_E, directions[:rank])

    def __call__(self, x_TE: Tensor) -> Tensor:
        """What arrives of a block."""
        normal, rms = normalised(x_TE)
        small_TR = torch.matmul(normal - self.mean_E, self.basis_RE.t())
        return (torch.matmul(small_TR, self.basis_RE) + self.mean_E) * rms

    def bits(self) -> float:
        """Of one token, in float32."""
        return 32.0 * len(self.basis_RE)


@dataclass(frozen=True)
class ResidualVq:
    """Residual vector quantisation (Juang and Gray 1982): a code from each of several books.

    Attributes:
        books: of each stage, [codes, E].
    """

    books: tuple[Tensor, ...]

    @classmethod
    def fit(cls, x_NE: Tensor, stages: int, codes: int, seed: int = 0) -> ResidualVq:
        """K-means of tokens, then of what is left over of them, stage by stage."""
        generator = torch.Generator().manual_seed(seed)
        books, rest_NE = [], x_NE
        for _ in range(stages):
            book_KE = _k_means(rest_NE, codes, generator)
            books.append(book_KE)
            rest_NE = rest_NE - book_KE[_nearest(rest_NE, book_KE)]
        return cls(tuple(books))

    def encode(self, x_TE: Tensor) -> Tensor:
        """Codes of normalised tokens, int64 [T, S]."""
        codes, rest_TE = [], x_TE
        for book_KE in self.books:
            codes.append(_nearest(rest_TE, book_KE))
            rest_TE = rest_TE - book_KE[codes[-1]]
        return torch.stack(codes, dim=1)

    def decode(self, codes_TS: Tensor) -> Tensor:
        """Normalised tokens of codes, [T, E]."""
        parts = [book_KE[codes_TS[:, stage]] for stage, book_KE in enumerate(self.books)]
        return torch.stack(parts).sum(dim=0)

    def __call__(self, x_TE: Tensor) -> Tensor:
        """What arrives of a block."""
        normal, rms = normalised(x_TE)
        return self.decode(self.encode(normal)) * rms

    def bits(self) -> float:
        """Of one token."""
        return float(sum(math.ceil(math.log2(max(len(book_KE), 2))) for book_KE in self.books))


@dataclass(frozen=True)
class Blocks:
    """Values of few bits, a scale for every :data:`BLOCK` of them.

    Attributes:
        value_bits: of a value.
    """

    value_bits: int

    def __call__(self, x_TE: Tensor) -> Tensor:
        """What arrives of a block of tokens."""
        tokens, width = x_TE.shape
        most = 2 ** (self.value_bits - 1) - 1
        more = -width % BLOCK
        cut = torch.nn.functional.pad(x_TE, (0, more)).reshape(tokens, -1, BLOCK)
        scale = (cut.abs().amax(dim=-1, keepdim=True) / most).half().float().clamp(min=1e-7)
        rounded: Tensor = (cut / scale).round().clamp(-most, most) * scale
        return rounded.reshape(tokens, -1)[:, :width]

    def bits(self, width: int) -> float:
        """Of one token of so many values."""
        return width * self.value_bits + math.ceil(width / BLOCK) * _SCALE_BITS


def _k_means(x_NE: Tensor, codes: int, generator: torch.Generator) -> Tensor:
    """Centres of so many groups of tokens, at most as many as there are tokens."""
    count = min(codes, len(x_NE))
    centres_KE = x_NE[torch.randperm(len(x_NE), generator=generator)[:count]].clone()
    for _ in range(_ROUNDS):
        nearest_N = _nearest(x_NE, centres_KE)
        sums_KE = torch.zeros_like(centres_KE).index_add_(0, nearest_N, x_NE)
        counts_K = torch.bincount(nearest_N, minlength=count)
        # A group that nobody is in stays where it is.
        filled = counts_K > 0
        centres_KE[filled] = sums_KE[filled] / counts_K[filled, None]
    return centres_KE


def _nearest(x_NE: Tensor, centres_KE: Tensor) -> Tensor:
    nearest_N: Tensor = torch.cdist(x_NE, centres_KE).argmin(dim=1)
    return nearest_N
