"""A GGUF file gives the model that was written into it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from edge_server.errors import ModelError
from edge_server.weights.gguf_file import read_llama

gguf = pytest.importorskip("gguf")

_TOKENS = ["<end>", "<begin>", "a", "b", "ab", "Ġ", "1", "2"]
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


@pytest.fixture(scope="module")
def network() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(_TOKENS),
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
            rope_parameters={"rope_type": "default", "rope_theta": 5e3},
            tie_word_embeddings=True,
        )
    ).eval()


def _interleaved(rows: np.ndarray, heads: int) -> np.ndarray:
    """As llama.cpp keeps query and key rows."""
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, rows.shape[1])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def _write(network: LlamaForCausalLM, path: Path, architecture: str = "llama") -> None:
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
    writer.add_token_list(_TOKENS)
    writer.add_token_types([3, 3, 1, 1, 1, 1, 1, 1])
    writer.add_token_merges(["a b"])
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


def test_it_says_what_the_model_said(network: LlamaForCausalLM, tmp_path: Path) -> None:
    _write(network, tmp_path / "model.gguf")
    read, tokenizer = read_llama(tmp_path / "model.gguf")
    ids = torch.tensor([[1, 2, 3, 4, 5, 6, 7]])
    with torch.inference_mode():
        expected, found = network(ids).logits, read(ids).logits
    # Weights came through 8-bit integers.
    assert (found - expected).abs().max() < 0.02 * expected.abs().max()
    assert tokenizer.encode("ab 12").tokens == ["ab", "Ġ", "1", "2"]
    assert tokenizer.encode("<begin>").ids == [1]
    assert read.config.eos_token_id == 0


def test_other_architectures_and_other_files_are_refused(network: LlamaForCausalLM, tmp_path: Path) -> None:
    _write(network, tmp_path / "other.gguf", architecture="mamba")
    with pytest.raises(ModelError, match=r"other\.gguf"):
        read_llama(tmp_path / "other.gguf")
    (tmp_path / "text.gguf").write_text("no weights")
    with pytest.raises(ModelError, match="not a GGUF file that can be read"):
        read_llama(tmp_path / "text.gguf")
