"""The forward pass that serves: a foundation's weights, for prompts of any length and rows that come and go.

Called by :class:`edge_server.runtime.model_runner.ServedLink`. What it does that the foundation's own class
does not, with the same outcome:

- Prompts are packed, [N, E]: nothing is computed for padding. Attention takes prompts of about one length
  together.
- Of a prompt, only the last position goes through the last block's queries and MLP, and the vocabulary.
- Keys and values are written where they stay (:mod:`edge_server.runtime.kv_cache`).
- Query, key and value are one product; a rotary pair stands side by side in the weights, so that turning it
  is one complex product; residuals are added within the products.
- A LoRA that is not for every row is computed beside the products (:mod:`edge_server.runtime.adapter`).
- On a processor that multiplies in bfloat16, prompts pass their products in it. What is between products, and
  decode steps, whose few rows gain nothing, stay in the weights' own type.
- Decode steps, which are as fast as weights are read, multiply 8-bit integers where that is asked for
  (:mod:`edge_server.runtime.integers`).

Gate and up projection as one product were no faster on a CPU: halves that lie apart cost more later.

Shapes: N packed positions, B rows, T positions of the longest, E embedding width, H query heads,
G key/value heads, D head width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edge_server.model.decoder_weights import BlockWeights, DecoderWeights
from edge_server.runtime.adapter import (
    Adapted,
    BlockAdapter,
    adapted_rows,
    adapted_steps,
    add_to,
    block_adapter,
)
from edge_server.runtime.integers import IntegerMatrix
from edge_server.runtime.kv_cache import KeyValueCache
from edge_server.runtime.matmul import Matrix, add_product, in_pieces, product, rows_for, rows_together
from edge_server.runtime.packing import Integers, Packing, hide_ends
from edge_server.runtime.prompt_groups import PromptGroup, prompt_groups, rows_as_index
from edge_server.runtime.transfer import on_device

# Who decodes without an engine may let rows go on for a while that have come to their end.
_BEYOND = 256


_M = TypeVar("_M", bound=Matrix)


@dataclass(frozen=True)
class _Block(Generic[_M]):
    norm_E: Tensor
    qkv_EX: _M
    qkv_X: Tensor | None
    qk_norm_HD: Tensor | None
    out_XE: _M
    mlp_norm_E: Tensor
    gate_EI: _M
    up_EI: _M
    down_IE: _M
    adapter: BlockAdapter

    def in_bfloat16(self) -> _Block[_M]:
        """The same, its matrices rounded."""
        bias_X = None if self.qkv_X is None else self.qkv_X.bfloat16()
        rounded = {name: getattr(self, name).bfloat16() for name in _MATRICES}
        return replace(self, qkv_X=bias_X, adapter=self.adapter.in_bfloat16(), **rounded)

    def in_integers(self) -> _Block[IntegerMatrix]:
        """The same, its matrices rounded to 8-bit integers."""
        rounded: Any = {name: IntegerMatrix.of(getattr(self, name)) for name in _MATRICES}
        return cast("_Block[IntegerMatrix]", replace(self, **rounded))


_MATRICES = ("qkv_EX", "out_XE", "gate_EI", "up_EI", "down_IE")


class Decoder:
    """Prefill and decoding with the weights of a foundation.

    Args:
        weights: of a foundation, its LoRA merged, or beside its projections; its matrices are shared, but for
            query, key and value.
        max_positions: longest row that is asked for.
        bfloat16: read prompts with products in bfloat16; their matrices are then held in it as well.
        integers: take decode steps with products in 8-bit integers; likewise.
        sections: how many rotary pairs, one after another, turn by time, by row, by column, and again by
            these (M-RoPE); none: all turn by one position.
        unsaid: language tokens that have a place in prompts only; their logits are minus infinity. One that
            was given another token's embedding is otherwise as likely as that one.
    """

    def __init__(
        self,
        weights: DecoderWeights,
        max_positions: int,
        *,
        bfloat16: bool = False,
        integers: bool = False,
        sections: Sequence[int] = (),
        unsaid: Sequence[int] = (),
    ) -> None:
        self.heads, self.kv_heads, self.head_dim = weights.heads, weights.kv_heads, weights.head_dim
        with torch.no_grad():
            self.blocks = [self._block(block) for block in weights.blocks]
            # What prompts pass; also one that is read alone, for which it is no faster: an answer must not
            # depend on who is read with it.
            self._reading = [block.in_bfloat16() for block in self.blocks] if bfloat16 else self.blocks
            #: Whether there is a LoRA beside the weights, for rows that say so.
            self.adapts = any(block.lora for block in weights.blocks)
            self._norm_E, self._vocabulary_EV = weights.norm_E, weights.vocabulary_VE.t()
            #: What decode steps pass.
            self._saying: Sequence[_Block[Any]] = self.blocks
            self._said_EV: Matrix = self._vocabulary_EV
            if integers:
                self._saying = [block.in_integers() for block in self.blocks]
                self._said_EV = IntegerMatrix.of(self._vocabulary_EV)
            self.dtype, self.device = self._norm_E.dtype, self._norm_E.device
            self._unsaid = torch.tensor(unsaid, dtype=torch.int64, device=self.device) if unsaid else None
            self._eps = torch.tensor(weights.eps, dtype=torch.float32, device=self.device)
            cos, sin = weights.turns(torch.arange(max_positions + _BEYOND, device=self.device)[None])
        half = self.head_dim // 2
        #: Rotation of each position's pairs, complex, [position, D / 2].
        self._turns = torch.complex(cos[0, :, :half].float(), sin[0, :, :half].float())
        axes = [axis % 3 for axis, pairs in enumerate(sections) for _ in range(pairs)]
        self._axes_D = torch.tensor(axes, device=self.device) if axes else None

    def new_cache(self) -> KeyValueCache:
        """Room for a running batch."""
        return KeyValueCache(len(self.blocks), self.kv_heads, self.head_dim, self.dtype, self.device)

    def prefill(
        self,
        x_NE: Tensor,
        lengths: Sequence[int],
        cache: KeyValueCache,
        cache_rows: Sequence[int],
        positions_3N: Integers | None = None,
        adapted: Sequence[bool] = (),
    ) -> Tensor:
        """Read prompts into their cache rows.

        Args:
            x_NE: embeddings of all prompts, one after another; overwritten.
            lengths: positions of each; the longest first.
            cache: where their keys and values go.
            cache_rows: of each prompt, taken from the cache.
            positions_3N: in time, row and column, of each; None: one after another.
            adapted: which prompts are answered with a LoRA that is kept apart; none given: no prompt is.

        Returns:
            Logits after each prompt's last position, [B, V].
        """
        packing = Packing(lengths, self.device)
        cache_row_B = np.asarray(cache_rows, np.int64)
        groups = prompt_groups(packing, cache_row_B)
        turns_N1D = self._turns_of(packing, positions_3N)
        if positions_3N is not None:
            # What is said goes on behind the furthest of its prompt.
            begins = np.cumsum(packing.lengths) - packing.lengths
            behind = np.maximum.reduceat(positions_3N.max(axis=0), begins) + 1
            cache.shift_R[packing.tensor(cache_row_B)] = packing.tensor(behind - packing.lengths)
        queries = self.heads * self.head_dim
        *blocks, last_block = self._reading
        x, count, more = x_NE, len(x_NE), 0
        if in_pieces(last_block.qkv_EX):
            more = rows_together(count) - count
            x, turns_N1D = F.pad(x, (0, 0, 0, more)), F.pad(turns_N1D, (0, 0, 0, 0, 0, more))
        who = self._adapt(cache, cache_rows, adapted, packing.lengths, more)
        for block, layer in zip(blocks, cache.layers, strict=False):
            qkv_NX = self._project(self._norm(x, block.norm_E), block, who)
            self._turn(qkv_NX, block, turns_N1D)
            seen_NX = block.out_XE.new_empty(len(x), queries)
            seen_NX[count:] = 0
            for group in groups:
                seen_NX[group.tokens] = self._attend(qkv_NX[group.tokens], group, layer)
            self._finish(x, seen_NX, block, who)
        # The last block's keys and values come from every position, its answer from the last alone.
        h_NE = self._norm(x, last_block.norm_E)
        kv_NX = self._project(h_NE, last_block, who, slice(queries, None))
        self._turn(kv_NX, last_block, turns_N1D, slice(self.heads, None))
        layer = cache.layers[-1]
        for group in groups:
            self._store(layer, group, group.packing.pad(kv_NX[group.tokens]))
        h_BE, x_BE = (each.index_select(0, packing.last_of_each) for each in (h_NE, x))
        who = None if who is None else who.last(packing.last_of_each)
        q_BX = self._project(h_BE, self.blocks[-1], who, slice(queries))
        self._turn(q_BX, last_block, turns_N1D.index_select(0, packing.last_of_each), slice(self.heads))
        kv = layer[:, :, :, : packing.longest][:, rows_as_index(cache_row_B, self.device)]
        ends = self._hide_ends(packing.tensor(packing.lengths), packing.longest)
        self._finish(x_BE, self._look_back(q_BX, kv, ends), self.blocks[-1], who)
        return self._logits(x_BE)

    def extend(
        self,
        x_NE: Tensor,
        begin: int,
        cache: KeyValueCache,
        cache_row: int,
        positions_3L: Integers | None = None,
        *,
        adapted: bool = False,
    ) -> Tensor:
        """Read the rest of a prompt, whose beginning is in its cache row.

        Args:
            x_NE: embeddings of the rest; overwritten.
            begin: positions of the beginning.
            cache: holds its keys and values, and gets those of the rest.
            cache_row: the prompt's.
            positions_3L: in time, row and column, of the whole prompt; None: one after another.
            adapted: whether it is answered with a LoRA that is kept apart, as its beginning was read.

        Returns:
            Logits after its last position, [1, V].
        """
        count = len(x_NE)
        length = begin + count
        packing = Packing([length], self.device)
        if positions_3L is not None:
            cache.shift_R[cache_row] = int(positions_3L.max()) + 1 - length
        turns_N1D = self._turns_of(packing, positions_3L)[begin:]
        x = x_NE
        who = self._adapt(cache, [cache_row], [adapted], np.array([count]), 0)
        if in_pieces(self._reading[-1].qkv_EX):
            more = rows_together(count) - count
            x, turns_N1D = F.pad(x, (0, 0, 0, more)), F.pad(turns_N1D, (0, 0, 0, 0, 0, more))
        queries = self.heads * self.head_dim
        # Each position sees the beginning, and of the rest what is not behind it.
        sees = torch.ones(count, length, dtype=torch.bool, device=self.device).tril(begin)
        *blocks, last_block = self._reading
        for block, layer in zip(blocks, cache.layers, strict=False):
            qkv_NX = self._project(self._norm(x, block.norm_E), block, who)
            self._turn(qkv_NX, block, turns_N1D)
            k, v = self._store_rest(qkv_NX[:count, queries:], layer, cache_row, begin)
            q = qkv_NX[:count, :queries].view(1, count, self.heads, self.head_dim).transpose(1, 2)
            grouped = self.heads != self.kv_heads
            seen = F.scaled_dot_product_attention(q, k, v, attn_mask=sees, enable_gqa=grouped)
            seen_NX = block.out_XE.new_zeros(len(x), queries)
            seen_NX[:count] = seen.transpose(1, 2).flatten(2)[0]
            self._finish(x, seen_NX, block, who)
        # As with whole prompts, the last block's answer comes from the last position alone.
        last = torch.tensor([count - 1], device=self.device)
        h_NE = self._norm(x, last_block.norm_E)
        kv_NX = self._project(h_NE, last_block, who, slice(queries, None))
        self._turn(kv_NX, last_block, turns_N1D, slice(self.heads, None))
        kv = self._store_rest(kv_NX[:count], cache.layers[-1], cache_row, begin)
        h_1E, x_1E = (each.index_select(0, last) for each in (h_NE, x))
        who = None if who is None else who.last(last)
        q_1X = self._project(h_1E, self.blocks[-1], who, slice(queries))
        self._turn(q_1X, last_block, turns_N1D.index_select(0, last), slice(self.heads))
        ends = self._hide_ends(packing.tensor(packing.lengths), length)
        self._finish(x_1E, self._look_back(q_1X, kv, ends), self.blocks[-1], who)
        return self._logits(x_1E)

    def _store_rest(self, kv_NX: Tensor, layer: Tensor, cache_row: int, begin: int) -> Tensor:
        """Write keys and values behind the beginning of a row; returns all of it, [2, 1, G, T, D]."""
        count = len(kv_NX)
        new = kv_NX.view(count, 2, self.kv_heads, self.head_dim).permute(1, 2, 0, 3)
        layer[:, cache_row, :, begin : begin + count] = new
        return layer[:, cache_row, None, :, : begin + count]

    def decode(self, x_BE: Tensor, positions_B: Tensor, cache: KeyValueCache, longest: int) -> Tensor:
        """One more position for the rows in the cache rows 0 to B - 1; nothing of it happens off the device.

        Args:
            x_BE: embedding of each row's newest language token; overwritten.
            positions_B: where it stands in its row.
            cache: the rows' keys and values, with room for this position's; its lengths are neither read nor
                changed.
            longest: positions of a row that are read, at least those of the longest.

        Returns:
            Logits, [B, V].
        """
        rows = len(x_BE)
        turned_B = positions_B if self._axes_D is None else positions_B + cache.shift_R[:rows]
        turns_B1D = self._turns[turned_B][:, None]
        places = cache.places(positions_B)
        ends = self._hide_ends(positions_B + 1, longest)
        queries = self.heads * self.head_dim
        who = adapted_steps(cache, rows) if self.adapts else None
        for block, layer in zip(self._saying, cache.layers, strict=True):
            qkv_BX = self._project(self._norm(x_BE, block.norm_E), block, who)
            self._turn(qkv_BX, block, turns_B1D)
            new = qkv_BX[:, queries:].reshape(-1, self.head_dim)
            layer.view(-1, self.head_dim).index_copy_(0, places, new)
            kv = layer[:, :rows, :, :longest]
            self._finish(x_BE, self._look_back(qkv_BX[:, :queries], kv, ends), block, who)
        return self._logits(x_BE, self._said_EV)

    def _adapt(
        self,
        cache: KeyValueCache,
        cache_rows: Sequence[int],
        adapted: Sequence[bool],
        lengths: Integers,
        more: int,
    ) -> Adapted | None:
        """Which packed rows of prompts the LoRA counts for; the cache remembers it of theirs."""
        who = adapted_rows(adapted, lengths, more, self.device) if self.adapts else None
        if who is not None:
            share_B = on_device(np.asarray(adapted, np.float32), self.device)
            cache.adapted_R[on_device(np.asarray(cache_rows, np.int64), self.device)] = share_B
        return who

    def _turns_of(self, packing: Packing, positions_3N: Integers | None) -> Tensor:
        """Rotation of each packed position's pairs, [N, 1, D / 2]."""
        if positions_3N is None or self._axes_D is None:
            return self._turns[packing.tensor(packing.position_of_each)][:, None]
        of_each_DN = packing.tensor(positions_3N)[self._axes_D]
        pairs_D = torch.arange(len(self._axes_D), device=self.device)
        return self._turns[of_each_DN.t(), pairs_D][:, None]

    def _block(self, block: BlockWeights) -> _Block[Tensor]:
        matrices = self._side_by_side(block.q_XE), self._side_by_side(block.k_XE), block.v_XE
        bias_X = norm_HD = None
        if block.biases is not None:
            q_X, k_X, v_X = block.biases
            bias_X = torch.cat([self._side_by_side(q_X), self._side_by_side(k_X), v_X])
        if block.q_norm_D is not None and block.k_norm_D is not None:
            q_D, k_D = self._side_by_side(block.q_norm_D), self._side_by_side(block.k_norm_D)
            norm_HD = torch.stack([*[q_D] * self.heads, *[k_D] * self.kv_heads])
        return _Block(
            norm_E=block.norm_E,
            qkv_EX=torch.cat(matrices).t(),
            qkv_X=bias_X,
            qk_norm_HD=norm_HD,
            out_XE=block.out_EX.t(),
            mlp_norm_E=block.mlp_norm_E,
            gate_EI=block.gate_IE.t(),
            up_EI=block.up_IE.t(),
            down_IE=block.down_EI.t(),
            adapter=block_adapter(
                block.lora,
                {"q": len(block.q_XE), "k": len(block.k_XE), "v": len(block.v_XE)},
                self._side_by_side,
            ),
        )

    def _side_by_side(self, weight: Tensor) -> Tensor:
        """Rows of a projection, a bias or a norm so that a head's dimensions i and i + D / 2 are neighbours.

        These are a rotary pair. Queries and keys are reordered alike: their products stay the same.
        """
        pairs = weight.reshape(-1, 2, self.head_dim // 2, weight.shape[1:].numel())
        return pairs.transpose(1, 2).reshape(weight.shape)

    def _norm(self, x: Tensor, weight_E: Tensor) -> Tensor:
        """RMSNorm in three passes over x; torch's own takes eight on a CPU."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        scale = torch.addcmul(self._eps, length, length, value=1 / x.shape[-1]).rsqrt_()
        return (x * scale).to(x.dtype).mul_(weight_E)

    def _project(
        self, h: Tensor, block: _Block[Any], who: Adapted | None, which: slice = slice(None)
    ) -> Tensor:
        """Queries, keys and values, or those of them that are asked for, in the type of h."""
        bias_X = None if block.qkv_X is None else block.qkv_X[which]
        h_in = h.to(block.qkv_EX.dtype)
        # Steps, the only ones with integers, ask for all.
        qkv_EX = block.qkv_EX[:, which] if isinstance(block.qkv_EX, Tensor) else block.qkv_EX
        qkv_NX = product(h_in, qkv_EX, bias_X)
        add_to(qkv_NX, h_in, block.adapter.qkv, who, which)
        return qkv_NX.to(h.dtype)

    def _turn(self, x_NX: Tensor, block: _Block[Any], turns_N1D: Tensor, which: slice = slice(None)) -> None:
        """Rotary position embedding of query and key heads, in place, behind their norm where there is one.

        Args:
            x_NX: begins with these heads; values that follow are left as they are.
            block: whose heads.
            turns_N1D: of each token's position.
            which: of all query and key heads, those that x begins with.
        """
        heads = len(range(self.heads + self.kv_heads)[which])
        x_NHD = x_NX[:, : heads * self.head_dim].view(len(x_NX), heads, self.head_dim)
        if block.qk_norm_HD is not None:
            x_NHD.copy_(self._norm(x_NHD, block.qk_norm_HD[which]))
        pairs = x_NHD.view(len(x_NX), heads, self.head_dim // 2, 2)
        if x_NX.dtype == torch.float32:
            torch.view_as_complex(pairs).mul_(turns_N1D)
        else:
            pairs.copy_(torch.view_as_real(torch.view_as_complex(pairs.float()) * turns_N1D))

    def _look_back(self, q_BX: Tensor, kv: Tensor, ends_MQT: Tensor) -> Tensor:
        """Attention of one position a row to its keys and values, [2, B, G, T, D].

        The query heads of a key stand together. Products over rows and heads at once: torch's attention is
        made for many queries, and slower here on a CPU.
        """
        k_MTD, v_MTD = kv.flatten(1, 2)
        q_MQD = q_BX.reshape(len(k_MTD), -1, self.head_dim)
        scores_MQT = torch.baddbmm(ends_MQT, q_MQD, k_MTD.transpose(1, 2), alpha=self.head_dim**-0.5)
        weights_MQT = scores_MQT.softmax(-1, dtype=torch.float32).to(v_MTD.dtype)
        return torch.bmm(weights_MQT, v_MTD).view(len(q_BX), -1)

    def _hide_ends(self, lengths_B: Tensor, longest: int) -> Tensor:
        """The mask of :meth:`_look_back`, for rows and key heads M, [M, Q, longest]."""
        ends = hide_ends(lengths_B, longest, self.dtype)
        shape = (len(lengths_B), self.kv_heads, self.heads // self.kv_heads, longest)
        return ends.expand(shape).flatten(0, 1)

    def _finish(self, x: Tensor, seen: Tensor, block: _Block[Any], who: Adapted | None) -> None:
        """The rest of a block: what attention saw, and the MLP, are added to x."""
        adapter = block.adapter
        add_product(x, seen, block.out_XE)
        add_to(x, seen, adapter.out, who)
        h = self._norm(x, block.mlp_norm_E).to(block.gate_EI.dtype)
        rows = rows_for(h, block.gate_EI)
        gate, up = product(rows, block.gate_EI), product(rows, block.up_EI)
        add_to(gate, h, adapter.gate, who)
        add_to(up, h, adapter.up, who)
        gate = F.silu(gate, inplace=True).mul_(up)
        add_product(x, gate, block.down_IE)
        add_to(x, gate, adapter.down, who)

    def _logits(self, x_BE: Tensor, vocabulary_EV: Matrix | None = None) -> Tensor:
        if vocabulary_EV is None:
            vocabulary_EV = self._vocabulary_EV
        logits_BV = product(self._norm(x_BE, self._norm_E), vocabulary_EV)
        return logits_BV if self._unsaid is None else logits_BV.index_fill_(1, self._unsaid, -torch.inf)

    def _attend(self, qkv_NX: Tensor, group: PromptGroup, layer: Tensor) -> Tensor:
        """Causal attention of prompts to themselves, [N, H * D]; their keys and values go to the cache."""
        packing = group.packing
        qkv_BTX = packing.pad(qkv_NX)
        queries = self.heads * self.head_dim
        k, v = self._store(layer, group, qkv_BTX[:, :, queries:])
        q = qkv_BTX[:, :, :queries].view(packing.rows, packing.longest, self.heads, self.head_dim)
        grouped = self.heads != self.kv_heads
        seen = F.scaled_dot_product_attention(q.transpose(1, 2), k, v, is_causal=True, enable_gqa=grouped)
        return packing.pack(seen.transpose(1, 2).flatten(2))

    def _store(self, layer: Tensor, group: PromptGroup, kv_BTX: Tensor) -> Tensor:
        """Write keys and values of prompts into their rows of a layer; returns them, [2, B, G, T, D]."""
        rows, longest, _ = kv_BTX.shape
        kv = kv_BTX.view(rows, longest, 2, self.kv_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        layer[:, :, :, :longest][:, group.cache_rows] = kv
        return kv
