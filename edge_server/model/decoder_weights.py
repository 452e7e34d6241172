"""What a decoder computes with: the weights of a causal language model, whatever its class calls them.

A foundation class says how its network becomes :class:`DecoderWeights`
(:mod:`edge_server.model.foundation_classes`); :mod:`edge_server.runtime.decoder` computes with them.

Shapes: E embedding width, H query heads, G key/value heads, D head width, I width of the MLP, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from edge_server.errors import ModelError

# Rotations that depend on how long a row is by now: keys that were kept would have to be turned again.
_ROPE_OF_THE_LENGTH = ("dynamic", "longrope")


Projection: TypeAlias = Literal["q", "k", "v", "out", "gate", "up", "down"]
"""A product of a block."""


@dataclass(frozen=True)
class LowRank:
    """What a LoRA that is kept apart adds to a product of x: up (down x).

    Attributes:
        down_RX: [rank, in].
        up_YR: [out, rank], scaled.
    """

    down_RX: Tensor
    up_YR: Tensor


@dataclass(frozen=True)
class BlockWeights:
    """One block: RMSNorm, attention, RMSNorm, gated MLP (SiLU). Matrices are [out, in], as torch keeps them.

    Attributes:
        norm_E: of the norm before attention.
        q_XE, k_XE, v_XE: queries [H * D, E], keys and values [G * D, E].
        out_EX: what attention saw, back to the embedding width.
        mlp_norm_E: of the norm before the MLP.
        gate_IE, up_IE, down_EI: the MLP, silu(gate) * up, then down.
        biases: of queries, keys and values; None: they have none.
        q_norm_D, k_norm_D: RMSNorm of each query and key head before it is turned; None: there is none.
        lora: of projections that have one which was not merged.
    """

    norm_E: Tensor
    q_XE: Tensor
    k_XE: Tensor
    v_XE: Tensor
    out_EX: Tensor
    mlp_norm_E: Tensor
    gate_IE: Tensor
    up_IE: Tensor
    down_EI: Tensor
    biases: tuple[Tensor, Tensor, Tensor] | None = None
    q_norm_D: Tensor | None = None
    k_norm_D: Tensor | None = None
    lora: Mapping[Projection, LowRank] = field(default_factory=dict)


@dataclass(frozen=True)
class DecoderWeights:
    """A causal language model: blocks, a last RMSNorm, a vocabulary.

    Attributes:
        heads: query heads H.
        kv_heads: key/value heads G.
        head_dim: width of a head D, all of which is turned by position.
        eps: of every norm.
        blocks: from first to last.
        norm_E: of the norm before the vocabulary.
        vocabulary_VE: what last hidden states are compared with to say a language token.
        turns: cosine and sine of each rotary dimension, [1, T, D] in float32, of positions [1, T].
    """

    heads: int
    kv_heads: int
    head_dim: int
    eps: float
    blocks: list[BlockWeights]
    norm_E: Tensor
    vocabulary_VE: Tensor
    turns: Callable[[Tensor], tuple[Tensor, Tensor]]


def llama_like(network: Any, max_positions: int) -> DecoderWeights:
    """The weights of a class that is built, and calls its parts, as Llama does; so do Qwen2 and many others.

    Args:
        network: a causal language model of transformers.
        max_positions: longest row that is asked for.

    Raises:
        ModelError: its configuration asks for something that no decoder here computes.
    """
    refuse_what_is_not_computed(network, max_positions)
    return decoder_weights(network, [_block(layer) for layer in network.model.layers])


def decoder_weights(network: Any, blocks: list[BlockWeights]) -> DecoderWeights:
    """Blocks that were read from a network's layers, with what stands around them."""
    config, norm_E = network.config, network.model.norm.weight.detach()
    # Its type would be that of what it makes; rotations are exact whatever the weights are.
    exact = torch.zeros(1, device=norm_E.device)
    return DecoderWeights(
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=_head_dim(config),
        eps=config.rms_norm_eps,
        blocks=blocks,
        norm_E=norm_E,
        vocabulary_VE=network.get_output_embeddings().weight.detach(),
        turns=lambda positions: network.model.rotary_emb(exact, positions),
    )


def refuse_what_is_not_computed(network: Any, max_positions: int) -> None:
    """Look for settings under which a network says something else than its weights do here.

    Raises:
        ModelError: names the setting and what it is.
    """
    config = network.config
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    short = window is not None and window < max_positions and (kinds is None or "sliding_attention" in kinds)
    rope = config.rope_parameters
    turned = rope.get("partial_rotary_factor", 1.0)
    biased = [
        name
        for name, part in network.model.layers.named_modules()
        if isinstance(part, nn.Linear)
        and part.bias is not None
        and name.removesuffix(".base_layer").endswith(_WITHOUT_BIAS)
    ]
    for setting, found, computed in (
        ("hidden_act", config.hidden_act, config.hidden_act == "silu"),
        ("sliding_window", window, not short),
        ("rope_parameters.rope_type", rope["rope_type"], rope["rope_type"] not in _ROPE_OF_THE_LENGTH),
        ("rope_parameters.partial_rotary_factor", turned, turned == 1.0),
        ("bias", biased[:1], not biased),
    ):
        if not computed:
            raise ModelError(f"foundation: its {setting} is {found!r}, which is not served")


_WITHOUT_BIAS = ("o_proj", "gate_proj", "up_proj", "down_proj")


def _head_dim(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _block(layer: Any) -> BlockWeights:
    attention, mlp = layer.self_attn, layer.mlp
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    q_XE, k_XE, v_XE = (each.weight.detach() for each in projections)
    biases = None
    if attention.q_proj.bias is not None:
        q_X, k_X, v_X = (each.bias.detach() for each in projections)
        biases = q_X, k_X, v_X
    q_norm, k_norm = getattr(attention, "q_norm", None), getattr(attention, "k_norm", None)
    return BlockWeights(
        norm_E=layer.input_layernorm.weight.detach(),
        q_XE=q_XE,
        k_XE=k_XE,
        v_XE=v_XE,
        out_EX=attention.o_proj.weight.detach(),
        mlp_norm_E=layer.post_attention_layernorm.weight.detach(),
        gate_IE=mlp.gate_proj.weight.detach(),
        up_IE=mlp.up_proj.weight.detach(),
        down_EI=mlp.down_proj.weight.detach(),
        biases=biases,
        q_norm_D=None if q_norm is None else q_norm.weight.detach(),
        k_norm_D=None if k_norm is None else k_norm.weight.detach(),
        lora=_low_ranks(attention, mlp),
    )


def _low_ranks(attention: Any, mlp: Any) -> dict[Projection, LowRank]:
    """Of a block's projections, those that PEFT has given a LoRA."""
    projections: dict[Projection, Any] = {
        "q": attention.q_proj,
        "k": attention.k_proj,
        "v": attention.v_proj,
        "out": attention.o_proj,
        "gate": mlp.gate_proj,
        "up": mlp.up_proj,
        "down": mlp.down_proj,
    }
    found: dict[Projection, LowRank] = {}
    for name, projection in projections.items():
        if isinstance(projection, LoraLayer):
            (adapter,) = projection.lora_A
            down_RX, up_YR = (each[adapter].weight for each in (projection.lora_A, projection.lora_B))
            found[name] = LowRank(down_RX.detach(), up_YR.detach() * projection.scaling[adapter])
    return found
