"""Writes a small Llama into a GGUF file, as llama.cpp keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np
from transformers import LlamaForCausalLM

_OF_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def write_gguf(
    network: LlamaForCausalLM,
    path: Path,
    tokens: Sequence[str],
    *,
    control: int = 2,
    merges: Sequence[str] = ("a b",),
    architecture: str = "llama",
) -> None:
    """Write a network and its tokenizer.

    Args:
        network: its weights tied to the embedding.
        path: of the file.
        tokens: of the vocabulary; the first ends a text, the second begins one.
        control: how many of the first are no text.
        merges: of byte pairs.
        architecture: what the file says it is.
    """
    writer = gguf.GGUFWriter(path, architecture)
    config = network.config
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(list(tokens))
    writer.add_token_types([3] * control + [1] * (len(tokens) - control))
    writer.add_token_merges(list(merges))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    writer.add_pad_token_id(0)
    state = {name: weight.numpy() for name, weight in network.state_dict().items()}
    writer.add_tensor("token_embd.weight", state["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", state["model.norm.weight"])
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for layer in range(config.num_hidden_layers):
        for theirs, ours in _OF_BLOCK.items():
            weight = state[f"model.layers.{layer}.{ours}.weight"]
            if theirs in heads:
                weight = _interleaved(weight, heads[theirs])
            # In blocks of 8-bit integers where rows are long enough for one.
            if weight.ndim == 2 and weight.shape[1] % 32 == 0:
                kind = gguf.GGMLQuantizationType.Q8_0
                writer.add_tensor(f"blk.{layer}.{theirs}.weight", gguf.quantize(weight, kind), raw_dtype=kind)
            else:
                writer.add_tensor(f"blk.{layer}.{theirs}.weight", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _interleaved(rows: np.ndarray, heads: int) -> np.ndarray:
    """As llama.cpp keeps query and key rows."""
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, rows.shape[1])
    return halves.swapaxes(1, 2).reshape(rows.shape)
