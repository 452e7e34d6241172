"""Receivers as they serve: the blocks of many users in one pass, packed; attention takes those of one length.

Called by :mod:`edge_server.runtime.prompt_layout`. The modules of :mod:`edge_server.model.receiver` say what
a receiver computes; this computes the same from their weights. What does not depend on what was received
(what the queries say to each other first, where a token stands in its block) is computed once.

Shapes: N received tokens of all blocks, B blocks, T tokens of the longest, W inner width, Q queries,
E embedding width of the foundation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_server.model.head import position_features
from edge_server.model.memory import MemoryReceiver
from edge_server.model.receiver import MlpReceiver, QueryReceiver, Receiver, TextReceiver
from edge_server.runtime.transfer import on_device


def receive_text(receiver: TextReceiver, x_NC: Tensor, snr_db_N: Tensor) -> Tensor:
    """Questions of the analog text path to embeddings, [N, E], packed as they came."""
    out_N1E: Tensor = receiver(x_NC[:, None], snr_db_N)
    return out_N1E[:, 0]


class Reception:
    """A receiver of a feature modality for blocks of any mix of lengths.

    Args:
        receiver: trained; its weights are shared.
    """

    def __init__(self, receiver: Receiver | MemoryReceiver) -> None:
        self._receiver = receiver
        self._where: dict[int, Tensor] = {}
        if isinstance(receiver, QueryReceiver):
            with torch.no_grad():
                self._prepare(receiver)

    def __call__(self, x_NC: Tensor, snr_db_N: Tensor, lengths: Sequence[int]) -> Tensor:
        """Received tokens to what the foundation reads.

        Args:
            x_NC: equalised reals of all blocks, one after another.
            snr_db_N: Es/N0 after equalisation that is told of each of them [dB].
            lengths: tokens of each block.

        Returns:
            Embeddings of all blocks, one after another, [embeddings of all, E].
        """
        receiver = self._receiver
        if isinstance(receiver, MemoryReceiver):
            parts = (torch.split(each, list(lengths)) for each in (x_NC, snr_db_N))
            return torch.cat([receiver(x[None], snr_db[None])[0] for x, snr_db in zip(*parts, strict=True)])
        if isinstance(receiver, MlpReceiver):
            out_1NE: Tensor = receiver(x_NC[None], snr_db_N[None])
            return out_1NE[0]
        order = sorted(range(len(lengths)), key=lambda block: lengths[block])
        groups = _groups([lengths[block] for block in order])
        where_NW = torch.cat([self._place(receiver, length) for length in lengths])
        x_NW = receiver.inner(x_NC).add_(where_NW)
        if receiver.film is not None:
            x_NW = receiver.film(x_NW[:, None], snr_db_N)[:, 0]
        blocks = x_NW.split(list(lengths))
        x_NW = torch.cat([blocks[block] for block in order])
        for mix in self._mix:
            x_NW = mix(x_NW, groups)
        queries_BQW = self._first_queries.expand(len(lengths), -1, -1)
        for number, answer in enumerate(self._answer):
            queries_BQW = answer(queries_BQW, x_NW, groups, mixed=number == 0)
        out_BQE: Tensor = receiver.outer(receiver.norm(queries_BQW))
        back_B = on_device(np.argsort(order), out_BQE.device)
        return out_BQE.index_select(0, back_B).flatten(0, 1)

    def _prepare(self, receiver: QueryReceiver) -> None:
        self._mix = [_SelfLayer(layer) for layer in receiver.mix]
        self._answer = [_QueryLayer(layer) for layer in receiver.answer]
        # The first layer's queries look at each other before they look at anything received.
        self._first_queries = receiver.queries.detach()[None]
        if self._answer:
            self._first_queries = self._answer[0].mix_queries(self._first_queries)

    def _place(self, receiver: QueryReceiver, length: int) -> Tensor:
        """Where each token of a block of this length stands, [length, W]."""
        if length not in self._where:
            positions = torch.arange(length, device=receiver.queries.device)
            self._where[length] = position_features(length, positions, receiver.config.width)
        return self._where[length]


@dataclass(frozen=True)
class _Attention:
    """Multi-head attention with the weights of torch's module."""

    heads: int
    in_XW: Tensor
    in_X: Tensor
    out: nn.Linear

    @classmethod
    def of(cls, module: nn.MultiheadAttention) -> _Attention:
        """Share a module's weights."""
        assert module.in_proj_weight is not None  # noqa: S101 - keys and values have the queries' width
        weight, bias = module.in_proj_weight.detach(), module.in_proj_bias.detach()
        return cls(module.num_heads, weight, bias, module.out_proj)

    def project(self, x: Tensor, first: int, count: int) -> Tensor:
        """Queries (0), keys (1), values (2), as many of them as asked for, side by side."""
        width = self.in_XW.shape[1]
        rows = slice(first * width, (first + count) * width)
        return F.linear(x, self.in_XW[rows], self.in_X[rows])

    def attend(self, q_BQW: Tensor, k_BTW: Tensor, v_BTW: Tensor) -> Tensor:
        """What queries see, [B, Q, W]."""
        q, k, v = (x.view(*x.shape[:2], self.heads, -1).transpose(1, 2) for x in (q_BQW, k_BTW, v_BTW))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class _SelfLayer:
    """Received tokens look at each other: torch's encoder layer, normalised first, on packed tokens."""

    def __init__(self, layer: nn.Module) -> None:
        assert isinstance(layer, nn.TransformerEncoderLayer)  # noqa: S101 - narrows the type
        self._layer = layer
        self._attention = _Attention.of(layer.self_attn)

    def __call__(self, x_NW: Tensor, groups: Sequence[_Group]) -> Tensor:
        layer, attention = self._layer, self._attention
        qkv_NX = attention.project(layer.norm1(x_NW), 0, 3)
        seen = [attention.attend(*group.rows(qkv_NX).chunk(3, dim=2)).flatten(0, 1) for group in groups]
        x_NW = attention.out(torch.cat(seen)).add_(x_NW)
        out_NW: Tensor = layer.linear2(F.gelu(layer.linear1(layer.norm2(x_NW)))).add_(x_NW)
        return out_NW


class _QueryLayer:
    """Queries look at each other, then at received tokens: torch's decoder layer, normalised first."""

    def __init__(self, layer: nn.Module) -> None:
        assert isinstance(layer, nn.TransformerDecoderLayer)  # noqa: S101 - narrows the type
        self._layer = layer
        self._own = _Attention.of(layer.self_attn)
        self._received = _Attention.of(layer.multihead_attn)

    def mix_queries(self, x_BQW: Tensor) -> Tensor:
        """Queries look at each other."""
        q, k, v = self._own.project(self._layer.norm1(x_BQW), 0, 3).chunk(3, dim=2)
        out_BQW: Tensor = self._own.out(self._own.attend(q, k, v)).add_(x_BQW)
        return out_BQW

    def __call__(self, x_BQW: Tensor, memory_NW: Tensor, groups: Sequence[_Group], *, mixed: bool) -> Tensor:
        """What the queries know afterwards, [B, Q, W].

        Args:
            x_BQW: the queries.
            memory_NW: received tokens.
            groups: of blocks of one length.
            mixed: whether the queries have looked at each other already, and are the same for every block.
        """
        layer, received = self._layer, self._received
        if not mixed:
            x_BQW = self.mix_queries(x_BQW)
        asking = layer.norm2(x_BQW[:1] if mixed else x_BQW)
        q_BQW = received.project(asking, 0, 1).expand(len(x_BQW), -1, -1)
        kv_NX = received.project(memory_NW, 1, 2)
        seen = [received.attend(q_BQW[g.blocks], *g.rows(kv_NX).chunk(2, dim=2)) for g in groups]
        x_BQW = received.out(torch.cat(seen)).add_(x_BQW)
        out_BQW: Tensor = layer.linear2(F.gelu(layer.linear1(layer.norm3(x_BQW)))).add_(x_BQW)
        return out_BQW


@dataclass(frozen=True)
class _Group:
    """Blocks of one length, next to each other.

    Attributes:
        length: of each.
        blocks: which of all blocks.
        tokens: where theirs stand among all tokens.
    """

    length: int
    blocks: slice
    tokens: slice

    def rows(self, x_NX: Tensor) -> Tensor:
        """Their tokens, [B, T, X]."""
        return x_NX[self.tokens].view(-1, self.length, x_NX.shape[1])


def _groups(lengths: Sequence[int]) -> list[_Group]:
    """Groups of blocks whose lengths are sorted."""
    groups = []
    block = token = 0
    for length, alike in groupby(lengths):
        count = len(list(alike))
        groups.append(_Group(length, slice(block, block + count), slice(token, token + count * length)))
        block += count
        token += count * length
    return groups
