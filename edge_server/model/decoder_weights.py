"""What a decoder computes with: the weights of a causal language model, whatever its class calls them.

A foundation class says how its network becomes :class:`DecoderWeights`
(:mod:`edge_server.model.foundation_classes`); those of the commonest are read from their files without it
(:mod:`edge_server.model.answering`). :mod:`edge_server.runtime.decoder` computes with them. Light to import
beside torch.

Shapes: E embedding width, H query heads, G key/value heads, D head width, I width of the MLP, V vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypeAlias

import torch
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

    def mapped(self, change: Callable[[Tensor], Tensor]) -> LowRank:
        """The same, each tensor changed."""
        return LowRank(change(self.down_RX), change(self.up_YR))


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

    def mapped(self, change: Callable[[Tensor], Tensor]) -> BlockWeights:
        """The same, each tensor changed."""
        changed: dict[str, Any] = {
            each.name: change(found)
            for each in fields(self)
            if isinstance(found := getattr(self, each.name), Tensor)
        }
        if self.biases is not None:
            changed["biases"] = tuple(map(change, self.biases))
        lora = {name: each.mapped(change) for name, each in self.lora.items()}
        return replace(self, **changed, lora=lora)


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

    def mapped(self, change: Callable[[Tensor], Tensor]) -> DecoderWeights:
        """The same, each tensor changed: brought to a device, or to a type."""
        return replace(
            self,
            blocks=[block.mapped(change) for block in self.blocks],
            norm_E=change(self.norm_E),
            vocabulary_VE=change(self.vocabulary_VE),
        )


def llama_like(network: Any, max_positions: int) -> DecoderWeights:
    """The weights of a class that is built, and calls its parts, as Llama does; so do Qwen2 and many others.

    Args:
        network: a causal language model of transformers.
        max_positions: longest row that is asked for.

    Raises:
        ModelError: its configuration asks for something that no decoder here computes.
    """
    refuse_what_is_not_computed(network, max_positions)
    return decoder_weights(network, [_block_of(layer) for layer in network.model.layers])


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
    biased = [
        name.removesuffix(".base_layer")
        for name, part in network.model.layers.named_modules()
        if isinstance(part, nn.Linear) and part.bias is not None
    ]
    refuse_settings(network.config, biased, max_positions)


def refuse_settings(config: Any, biased: Iterable[str], max_positions: int) -> None:
    """As :func:`refuse_what_is_not_computed`, of what has an attribute for each setting.

    Args:
        config: of a network.
        biased: names of the projections that have a bias.
        max_positions: longest row that is asked for.

    Raises:
        ModelError: names the setting and what it is.
    """
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    short = window is not None and window < max_positions and (kinds is None or "sliding_attention" in kinds)
    rope = config.rope_parameters
    turned = rope.get("partial_rotary_factor", 1.0)
    odd = [name for name in biased if name.endswith(_WITHOUT_BIAS)]
    for setting, found, computed in (
        ("hidden_act", config.hidden_act, config.hidden_act == "silu"),
        ("sliding_window", window, not short),
        ("rope_parameters.rope_type", rope["rope_type"], rope["rope_type"] not in _ROPE_OF_THE_LENGTH),
        ("rope_parameters.partial_rotary_factor", turned, turned == 1.0),
        ("bias", odd[:1], not odd),
    ):
        if not computed:
            raise ModelError(f"foundation: its {setting} is {found!r}, which is not served")


_WITHOUT_BIAS = ("o_proj", "gate_proj", "up_proj", "down_proj")
_PROJECTIONS: Mapping[Projection, str] = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "out": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
"""What a class that is built as Llama is calls the products of a block."""


def _head_dim(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _block_of(layer: Any) -> BlockWeights:
    """A layer's block. A LoRA that PEFT has put around its projections has names and scales of its own."""
    tensors = {
        re.sub(r"\.(lora_[AB])\.[^.]+\.", r".\1.", name.replace(".base_layer.", ".")): each.detach()
        for name, each in layer.named_parameters()
    }
    scales = {name: part.scaling for name, part in layer.named_modules() if hasattr(part, "scaling")}
    return block_named(
        tensors,
        lambda name: next(iter(scales[name].values())) if isinstance(scales.get(name), dict) else 1.0,
    )


def block_named(tensors: Mapping[str, Tensor], scale_of: Callable[[str], float]) -> BlockWeights:
    """A block of a class that calls its parts as Llama does, from its tensors by name.

    Args:
        tensors: by names within the layer, as its files have them; of a LoRA beside a projection,
            ``PROJECTION.lora_A.weight`` and ``PROJECTION.lora_B.weight``.
        scale_of: by the name of a projection, what its LoRA is multiplied with.

    Raises:
        KeyError: one is missing.
    """
    weights = {name: tensors[f"{called}.weight"] for name, called in _PROJECTIONS.items()}
    biases = None
    if "self_attn.q_proj.bias" in tensors:
        q_X, k_X, v_X = (tensors[f"self_attn.{name}_proj.bias"] for name in "qkv")
        biases = q_X, k_X, v_X
    lora: dict[Projection, LowRank] = {}
    for name, called in _PROJECTIONS.items():
        if f"{called}.lora_A.weight" in tensors:
            down_RX, up_YR = (tensors[f"{called}.lora_{which}.weight"] for which in "AB")
            lora[name] = LowRank(down_RX, up_YR * scale_of(called))
    return BlockWeights(
        norm_E=tensors["input_layernorm.weight"],
        q_XE=weights["q"],
        k_XE=weights["k"],
        v_XE=weights["v"],
        out_EX=weights["out"],
        mlp_norm_E=tensors["post_attention_layernorm.weight"],
        gate_IE=weights["gate"],
        up_IE=weights["up"],
        down_EI=weights["down"],
        biases=biases,
        q_norm_D=tensors.get("self_attn.q_norm.weight"),
        k_norm_D=tensors.get("self_attn.k_norm.weight"),
        lora=lora,
    )
