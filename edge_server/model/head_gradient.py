"""A transmitter's head and its gradient as functions of its weights: what devices learn with, not torch.

    features [B, P, D], weights ─▶ tokens [B, T, C]                             :class:`HeadForward`
    features, weights, gradient of the loss by tokens ─▶ gradient by weights    :class:`HeadGradient`

The gradient is written out, since exporters trace no autograd. With n = LN(pooled), u = [n, where],
a = W1 u + b1, h = gelu(a), o = W2 h + b2 and the codeword y = r o, r = k (mean(o^2) + eps)^(-1/2):

    do = r dy - o k (mean(o^2) + eps)^(-3/2) sum(dy o) / N        over the N reals of a codeword
    dW2 = do^T h      da = (W2^T do) (Phi(a) + a phi(a))      dW1 = da^T u      dn = first half of W1^T da

An export compares both with torch's autograd (:mod:`edge_server.export.heads`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edge_server.model.head import POWER_EPSILON, REAL_POWER, TransmitterHead, position_features
from edge_server.model.selection import MatrixSelection

WEIGHTS = ("norm.weight", "norm.bias", "inner.weight", "inner.bias", "outer.weight", "outer.bias")
"""What of a head is learned, in the order in which both graphs take it."""


def can_learn_on_a_device(head: nn.Module) -> bool:
    """Whether a head's gradient is known here: one that selects by a constant matrix."""
    return isinstance(head, TransmitterHead) and isinstance(head.pooling, MatrixSelection)


def weights_of(head: nn.Module) -> dict[str, Tensor]:
    """A head's weights, in the order of :data:`WEIGHTS`."""
    named = dict(head.named_parameters())
    return {name: named[name].detach() for name in WEIGHTS}


@dataclass(frozen=True)
class _Steps:
    """What a head computes on its way to a codeword; names as in the formulas above."""

    unit: Tensor
    u: Tensor
    a: Tensor
    share: Tensor
    h: Tensor
    o: Tensor
    power: Tensor


class _Given(nn.Module):
    """A head whose weights are given to it.

    Args:
        head: of which selection and sizes are taken; :func:`can_learn_on_a_device`.
    """

    def __init__(self, head: TransmitterHead) -> None:
        super().__init__()
        self.pooling = head.pooling
        self.hidden_size = head.hidden_size
        self.eps = head.norm.eps

    def steps(self, features: Tensor, token_length: Tensor, weights: Sequence[Tensor]) -> _Steps:
        """All that the gradient needs of the way forward."""
        norm_weight, norm_bias, inner_weight, inner_bias, outer_weight, outer_bias = weights
        pooled = self.pooling(features, token_length)
        centred = pooled - pooled.mean(dim=-1, keepdim=True)
        unit = centred * torch.rsqrt(centred.square().mean(dim=-1, keepdim=True) + self.eps)
        positions = torch.arange(pooled.shape[1], device=features.device)
        where = position_features(torch.ones_like(positions).sum(), positions, self.hidden_size)
        u = torch.cat([unit * norm_weight + norm_bias, where.expand(features.shape[0], -1, -1)], dim=-1)
        a = u @ inner_weight.T + inner_bias
        share = 0.5 * (1.0 + torch.erf(a * 0.5**0.5))
        h = a * share
        o = h @ outer_weight.T + outer_bias
        power = o.square().mean(dim=(-2, -1), keepdim=True) + POWER_EPSILON
        return _Steps(unit, u, a, share, h, o, power)


class HeadForward(_Given):
    """From features and weights to tokens."""

    def forward(self, features: Tensor, token_length: Tensor, *weights: Tensor) -> Tensor:
        """[B, P, D], int64 [1] and the weights to power-normalised tokens [B, token_length, C]."""
        steps = self.steps(features, token_length, weights)
        return steps.o * torch.rsqrt(steps.power) * float(REAL_POWER**0.5)


class HeadGradient(_Given):
    """The gradient of a loss by a head's weights."""

    def forward(
        self, features: Tensor, token_length: Tensor, gradient: Tensor, *weights: Tensor
    ) -> tuple[Tensor, ...]:
        """Gradients by each of :data:`WEIGHTS`, summed over the batch.

        Args:
            features: [B, P, D].
            token_length: int64 [1].
            gradient: of the loss by the head's tokens, [B, token_length, C].
            weights: in the order of :data:`WEIGHTS`.
        """
        inner_weight, outer_weight = weights[2], weights[4]
        on = self.steps(features, token_length, weights)
        along = (gradient * on.o).mean(dim=(-2, -1), keepdim=True)
        scale = torch.rsqrt(on.power) * float(REAL_POWER**0.5)
        d_o = scale * (gradient - on.o * (along / on.power))
        d_h = d_o @ outer_weight
        d_a = d_h * (on.share + on.a * torch.exp(-0.5 * on.a * on.a) * (2.0 * math.pi) ** -0.5)
        d_n = (d_a @ inner_weight)[..., : self.hidden_size]
        over = (0, 1)
        return (
            (d_n * on.unit).sum(dim=over),
            d_n.sum(dim=over),
            (d_a.transpose(1, 2) @ on.u).sum(dim=0),
            d_a.sum(dim=over),
            (d_o.transpose(1, 2) @ on.h).sum(dim=0),
            d_o.sum(dim=over),
        )
