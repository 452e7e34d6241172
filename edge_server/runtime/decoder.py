"""The forward pass that serves: a Qwen2's weights, for prompts of any length and rows that come and go.

What it does that the class itself does not, with the same outcome:

- Prompts are packed, [N, E]: nothing is computed for padding. Attention takes prompts of about one length
  together.
- Of a prompt, only the last position goes through the last block's queries and MLP, and the vocabulary.
- Keys and values are written where they stay (:mod:`edge_server.runtime.kv_cache`).
- Query, key and value are one product; a rotary pair stands side by side in the weights, so that turning it
  is one complex product; residuals are added within the products.
- On a processor that multiplies in bfloat16, prompts pass their products in it. What is between products, and
  decode steps, whose few rows gain nothing, stay in the weights' own type.

Gate and up projection as one product were no faster on a CPU: halves that lie apart cost more later.

Shapes: N packed positions, B rows, T positions of the longest, E embedding width, H query heads,
G key/value heads, D head width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer

from edge_server.errors import ModelError
from edge_server.runtime.kv_cache import KeyValueCache
from edge_server.runtime.matmul import add_product, in_pieces, product, rows_together
from edge_server.runtime.packing import Packing, hide_ends
from edge_server.runtime.prompt_groups import PromptGroup, prompt_groups, rows_as_index

# Who decodes without an engine may let rows go on for a while that have come to their end.
_BEYOND = 256


@dataclass(frozen=True)
class _Block:
    norm_E: Tensor
    qkv_EX: Tensor
    qkv_X: Tensor
    out_XE: Tensor
    mlp_norm_E: Tensor
    gate_EI: Tensor
    up_EI: Tensor
    down_IE: Tensor

    def in_bfloat16(self) -> _Block:
        """The same, its matrices rounded."""
        names = ("qkv_EX", "qkv_X", "out_XE", "gate_EI", "up_EI", "down_IE")
        return replace(self, **{name: getattr(self, name).bfloat16() for name in names})


class Decoder:
    """Prefill and decoding with the weights of a foundation.

    Args:
        foundation: loaded, its LoRA merged; its matrices are shared, but for query, key and value.
        max_positions: longest row that is asked for.
        bfloat16: read prompts with products in bfloat16; their matrices are then held in it as well.

    Raises:
        ModelError: its configuration asks for something of the Qwen2 class that is not served.
    """

    def __init__(self, foundation: Qwen2ForCausalLM, max_positions: int, *, bfloat16: bool = False) -> None:
        config: Qwen2Config = foundation.config
        _refuse_what_is_not_served(config, max_positions)
        self.heads: int = config.num_attention_heads
        self.kv_heads: int = config.num_key_value_heads
        self.head_dim: int = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        with torch.no_grad():
            self.blocks = [self._block(layer) for layer in foundation.model.layers]
            # What prompts pass; also one that is read alone, for which it is no faster: an answer must not
            # depend on who is read with it.
            self._reading = [block.in_bfloat16() for block in self.blocks] if bfloat16 else self.blocks
            self._norm_E: Tensor = foundation.model.norm.weight.detach()
            self._vocabulary_EV: Tensor = foundation.lm_head.weight.detach().t()
            self.dtype, self.device = self._norm_E.dtype, self._norm_E.device
            self._eps = torch.tensor(config.rms_norm_eps, dtype=torch.float32, device=self.device)
            positions = torch.arange(max_positions + _BEYOND, device=self.device)[None]
            cos, sin = foundation.model.rotary_emb(torch.zeros(1, device=self.device), positions)
        half = self.head_dim // 2
        #: Rotation of each position's pairs, complex, [position, D / 2].
        self._turns = torch.complex(cos[0, :, :half].float(), sin[0, :, :half].float())

    def new_cache(self) -> KeyValueCache:
        """Room for a running batch."""
        return KeyValueCache(len(self.blocks), self.kv_heads, self.head_dim, self.dtype, self.device)

    def prefill(
        self, x_NE: Tensor, lengths: Sequence[int], cache: KeyValueCache, cache_rows: Sequence[int]
    ) -> Tensor:
        """Read prompts into their cache rows.

        Args:
            x_NE: embeddings of all prompts, one after another; overwritten.
            lengths: positions of each; the longest first.
            cache: where their keys and values go.
            cache_rows: of each prompt, taken from the cache.

        Returns:
            Logits after each prompt's last position, [B, V].
        """
        packing = Packing(lengths, self.device)
        cache_row_B = np.asarray(cache_rows, np.int64)
        groups = prompt_groups(packing, cache_row_B)
        turns_N1D = self._turns[packing.tensor(packing.position_of_each)][:, None]
        queries = self.heads * self.head_dim
        *blocks, last_block = self._reading
        x, count = x_NE, len(x_NE)
        if in_pieces(last_block.qkv_EX):
            more = rows_together(count) - count
            x, turns_N1D = F.pad(x, (0, 0, 0, more)), F.pad(turns_N1D, (0, 0, 0, 0, 0, more))
        for block, layer in zip(blocks, cache.layers, strict=False):
            qkv_NX = self._project(self._norm(x, block.norm_E), block)
            self._turn(qkv_NX, self.heads + self.kv_heads, turns_N1D)
            seen_NX = block.out_XE.new_empty(len(x), queries)
            seen_NX[count:] = 0
            for group in groups:
                seen_NX[group.tokens] = self._attend(qkv_NX[group.tokens], group, layer)
            self._finish(x, seen_NX, block)
        # The last block's keys and values come from every position, its answer from the last alone.
        h_NE = self._norm(x, last_block.norm_E)
        kv_NX = self._project(h_NE, last_block, slice(queries, None))
        self._turn(kv_NX, self.kv_heads, turns_N1D)
        layer = cache.layers[-1]
        for group in groups:
            self._store(layer, group, group.packing.pad(kv_NX[group.tokens]))
        h_BE, x_BE = (each.index_select(0, packing.last_of_each) for each in (h_NE, x))
        q_BX = self._project(h_BE, self.blocks[-1], slice(queries))
        self._turn(q_BX, self.heads, turns_N1D.index_select(0, packing.last_of_each))
        kv = layer[:, :, :, : packing.longest][:, rows_as_index(cache_row_B, self.device)]
        ends = self._hide_ends(packing.tensor(packing.lengths), packing.longest)
        self._finish(x_BE, self._look_back(q_BX, kv, ends), self.blocks[-1])
        return self._logits(x_BE)

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
        turns_B1D = self._turns[positions_B][:, None]
        places = cache.places(positions_B)
        ends = self._hide_ends(positions_B + 1, longest)
        queries = self.heads * self.head_dim
        for block, layer in zip(self.blocks, cache.layers, strict=True):
            qkv_BX = self._project(self._norm(x_BE, block.norm_E), block)
            self._turn(qkv_BX, self.heads + self.kv_heads, turns_B1D)
            new = qkv_BX[:, queries:].reshape(-1, self.head_dim)
            layer.view(-1, self.head_dim).index_copy_(0, places, new)
            kv = layer[:, :rows, :, :longest]
            self._finish(x_BE, self._look_back(qkv_BX[:, :queries], kv, ends), block)
        return self._logits(x_BE)

    def _block(self, layer: Qwen2DecoderLayer) -> _Block:
        attention, mlp = layer.self_attn, layer.mlp
        weights, biases = [], []
        for projection, pairs in (
            (attention.q_proj, True),
            (attention.k_proj, True),
            (attention.v_proj, False),
        ):
            weight, bias = projection.weight.detach(), projection.bias.detach()
            weights.append(self._side_by_side(weight) if pairs else weight)
            biases.append(self._side_by_side(bias[:, None])[:, 0] if pairs else bias)
        return _Block(
            norm_E=layer.input_layernorm.weight.detach(),
            qkv_EX=torch.cat(weights).t(),
            qkv_X=torch.cat(biases),
            out_XE=attention.o_proj.weight.detach().t(),
            mlp_norm_E=layer.post_attention_layernorm.weight.detach(),
            gate_EI=mlp.gate_proj.weight.detach().t(),
            up_EI=mlp.up_proj.weight.detach().t(),
            down_IE=mlp.down_proj.weight.detach().t(),
        )

    def _side_by_side(self, weight_XE: Tensor) -> Tensor:
        """Rows of a projection so that dimensions i and i + D / 2 of a head, a rotary pair, are neighbours.

        Queries and keys are reordered alike: their products stay the same.
        """
        pairs = weight_XE.view(-1, 2, self.head_dim // 2, weight_XE.shape[1])
        return pairs.transpose(1, 2).reshape(weight_XE.shape)

    def _norm(self, x: Tensor, weight_E: Tensor) -> Tensor:
        """RMSNorm in three passes over x; torch's own takes eight on a CPU."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        scale = torch.addcmul(self._eps, length, length, value=1 / x.shape[-1]).rsqrt_()
        return (x * scale).to(x.dtype).mul_(weight_E)

    def _project(self, h: Tensor, block: _Block, which: slice = slice(None)) -> Tensor:
        """Queries, keys and values, or those of them that are asked for, in the type of h."""
        return product(h.to(block.qkv_X.dtype), block.qkv_EX[:, which], block.qkv_X[which]).to(h.dtype)

    def _turn(self, x_NX: Tensor, heads: int, turns_N1D: Tensor) -> None:
        """Rotary position embedding of the first heads, in place."""
        pairs = x_NX[:, : heads * self.head_dim].view(len(x_NX), heads, self.head_dim // 2, 2)
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

    def _finish(self, x: Tensor, seen: Tensor, block: _Block) -> None:
        """The rest of a block: what attention saw, and the MLP, are added to x."""
        add_product(x, seen, block.out_XE)
        h = self._norm(x, block.mlp_norm_E).to(block.gate_EI.dtype)
        gate = F.silu(product(h, block.gate_EI), inplace=True)
        add_product(x, gate.mul_(product(h, block.up_EI)), block.down_IE)

    def _logits(self, x_BE: Tensor) -> Tensor:
        return torch.mm(self._norm(x_BE, self._norm_E), self._vocabulary_EV)

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


def _refuse_what_is_not_served(config: Qwen2Config, max_positions: int) -> None:
    windows = "sliding_attention" in config.layer_types and (config.sliding_window or 0) < max_positions
    rope = config.rope_parameters["rope_type"]
    for field, found, served in (
        ("hidden_act", config.hidden_act, config.hidden_act == "silu"),
        ("sliding_window", config.sliding_window, not windows),
        ("rope_parameters.rope_type", rope, rope != "dynamic"),
    ):
        if not served:
            raise ModelError(f"foundation: its {field} is {found!r}, which is not served")
