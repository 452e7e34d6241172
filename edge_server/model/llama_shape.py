"""Sizes of a foundation that is built as Llama is, so that its weights can be read without its library.

Light to import: no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from edge_server.model.config import FoundationConfig
from edge_server.model.published.config import CheckpointFoundation, DTypeName

BUILT_AS_LLAMA = ("llama", "mistral", "qwen2", "qwen3")
_ASKED_OF_A_CONFIGURATION = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "rms_norm_eps",
    "hidden_act",
    "rope_parameters",
    "tie_word_embeddings",
)


@dataclass(frozen=True)
class LlamaShape:
    """What a configuration says of a foundation that is built as Llama is."""

    width: int
    """Embedding width E."""
    layers: int
    """Blocks."""
    heads: int
    """Query heads H."""
    kv_heads: int
    """Key/value heads G."""
    head_dim: int
    """Width of a head D."""
    intermediate: int
    """Width of the MLP I."""
    eps: float
    """Of every norm."""
    theta: float
    """Base of the rotary position embedding."""
    tied: bool
    """Whether the vocabulary is the embedding."""
    dtype: DTypeName
    """Type of its weights."""
    settings: Any
    """For :func:`~edge_server.model.decoder_weights.refuse_settings`; None: there is nothing to refuse."""


def shape_of(found: FoundationConfig | CheckpointFoundation) -> LlamaShape | None:
    """What a configuration says; None: nothing but its own library knows what its weights mean."""
    if not isinstance(found, CheckpointFoundation):
        width, heads = found.hidden_size, found.heads
        sizes = (width, found.layers, heads, heads, width // heads, found.intermediate_size)
        return LlamaShape(*sizes, found.norm_eps, found.rope_theta, True, "float32", None)
    told = found.architecture
    rope = told.get("rope_parameters")
    if (
        told.get("model_type") not in BUILT_AS_LLAMA
        or any(told.get(name) is None for name in _ASKED_OF_A_CONFIGURATION)
        or not isinstance(rope, dict)
        or rope.get("rope_type") != "default"
        or "rope_theta" not in rope
    ):
        return None
    width, heads = int(told["hidden_size"]), int(told["num_attention_heads"])
    return LlamaShape(
        width,
        int(told["num_hidden_layers"]),
        heads,
        int(told["num_key_value_heads"]),
        int(told.get("head_dim") or width // heads),
        int(told["intermediate_size"]),
        float(told["rms_norm_eps"]),
        float(rope["rope_theta"]),
        bool(told["tie_word_embeddings"]),
        found.dtype,
        SimpleNamespace(**told),
    )
