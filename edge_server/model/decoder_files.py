"""A foundation's weights from its files, without the library that its network is of.

Only for classes that are built as Llama is, with plain rotations: for all else a configuration means what its
library makes of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from edge_server.model.decoder_weights import (
    BlockWeights,
    DecoderWeights,
    Projection,
    block_named,
    refuse_settings,
)
from edge_server.model.description import LinkConfig
from edge_server.model.llama_shape import LlamaShape

_EMBEDDING, _VOCABULARY, _NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
_LAYER, _LORA = "model.layers.", "base_model.model."


def decoder_weights_in(
    config: LinkConfig, shape: LlamaShape, base: Mapping[str, Tensor], lora: Mapping[str, Tensor]
) -> tuple[Tensor, DecoderWeights]:
    """A foundation's embedding and weights, from the tensors of its files.

    Args:
        config: of its link.
        shape: what that says of it.
        base: tensors of ``foundation.safetensors``.
        lora: of ``lora.safetensors``; none: it has none.

    Raises:
        KeyError: one is missing.
        ValueError: there is one too many, or one has another shape.
        ModelError: its configuration asks for something that is not served.
    """
    dtype = getattr(torch, shape.dtype)
    base = {name: each.to(dtype) for name, each in base.items()}
    if shape.settings is not None:
        biased = [name.removesuffix(".bias") for name in base if name.endswith("_proj.bias")]
        refuse_settings(shape.settings, biased, config.foundation.max_positions)
    vocabulary_VE = base[_EMBEDDING] if shape.tied else base[_VOCABULARY]
    around = {_EMBEDDING, _NORM} | (set() if shape.tied else {_VOCABULARY})
    layers = _by_layer(base, around)
    for name, tensor in lora.items():
        number, _, rest = name.removeprefix(_LORA).removeprefix(_LAYER).partition(".")
        layers[number][rest] = tensor
    if layers.keys() != {str(number) for number in range(shape.layers)}:
        raise ValueError(f"foundation: layers {', '.join(sorted(layers))}, and {shape.layers} are described")
    scale = config.lora.alpha / config.lora.rank
    blocks = [block_named(layers[str(number)], lambda called: scale) for number in range(shape.layers)]
    for block in blocks:
        _check_shapes(block, shape)
    if config.lora.applies_to is None:
        blocks = [_merged(block) for block in blocks]
    half = torch.arange(0, shape.head_dim, 2, dtype=torch.float32)
    inverse_D = 1.0 / (shape.theta ** (half / shape.head_dim))

    def turns(positions: Tensor) -> tuple[Tensor, Tensor]:
        """The rotation of each position (Su et al. 2021), pairs half a head apart."""
        angles = positions[..., None].float() * inverse_D.to(positions.device)
        both = torch.cat((angles, angles), dim=-1)
        return both.cos(), both.sin()

    weights = DecoderWeights(
        shape.heads, shape.kv_heads, shape.head_dim, shape.eps, blocks, base[_NORM], vocabulary_VE, turns
    )
    return base[_EMBEDDING], weights


def _by_layer(base: Mapping[str, Tensor], around: set[str]) -> dict[str, dict[str, Tensor]]:
    """Tensors of each layer, by their names within it."""
    layers: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in base.items():
        if name.startswith(_LAYER):
            number, _, rest = name.removeprefix(_LAYER).partition(".")
            layers[number][rest] = tensor
        elif name not in around:
            raise ValueError(f"foundation: {name}, which is not described")
    return layers


def _check_shapes(block: BlockWeights, shape: LlamaShape) -> None:
    """Compare what a file holds with what is described.

    Raises:
        ValueError: names what differs.
    """
    width, queries, keys = shape.width, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    expected = {
        "norm_E": (width,),
        "q_XE": (queries, width),
        "k_XE": (keys, width),
        "v_XE": (keys, width),
        "out_EX": (width, queries),
        "mlp_norm_E": (width,),
        "gate_IE": (shape.intermediate, width),
        "up_IE": (shape.intermediate, width),
        "down_EI": (width, shape.intermediate),
    }
    for name, size in expected.items():
        found = tuple(getattr(block, name).shape)
        if found != size:
            raise ValueError(f"foundation: {name} of a block is {found}, and {size} is described")
    for projection, added in block.lora.items():
        weight, found = getattr(block, _PRODUCT[projection]), (len(added.up_YR), added.down_RX.shape[1])
        if tuple(weight.shape) != found:
            raise ValueError(f"foundation: LoRA of {projection} of a block is for {found}")


_PRODUCT: Mapping[Projection, str] = {
    "q": "q_XE",
    "k": "k_XE",
    "v": "v_XE",
    "out": "out_EX",
    "gate": "gate_IE",
    "up": "up_IE",
    "down": "down_EI",
}
"""Where a block keeps the matrix of each product."""


def _merged(block: BlockWeights) -> BlockWeights:
    """A block with its LoRA added to its weights (Hu et al. 2022): it costs no time then."""
    matrices = {name: getattr(block, _PRODUCT[name]) for name in block.lora}
    merged = {
        _PRODUCT[name]: matrices[name] + (added.up_YR @ added.down_RX).to(matrices[name].dtype)
        for name, added in block.lora.items()
    }
    return replace(block, **merged, lora={})
