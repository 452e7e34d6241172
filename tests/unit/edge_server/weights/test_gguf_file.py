"""A GGUF file gives the model that was written into it."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from edge_server.errors import ModelError
from edge_server.weights.gguf_file import read_llama

pytest.importorskip("gguf")
write_gguf = importlib.import_module("tests.unit.edge_server.weights.gguf_writer").write_gguf

_TOKENS = ["<end>", "<begin>", "a", "b", "ab", "Ġ", "1", "2"]


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


def test_it_says_what_the_model_said(network: LlamaForCausalLM, tmp_path: Path) -> None:
    write_gguf(network, tmp_path / "model.gguf", _TOKENS)
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
    write_gguf(network, tmp_path / "other.gguf", _TOKENS, architecture="mamba")
    with pytest.raises(ModelError, match=r"other\.gguf"):
        read_llama(tmp_path / "other.gguf")
    (tmp_path / "text.gguf").write_text("no weights")
    with pytest.raises(ModelError, match="not a GGUF file that can be read"):
        read_llama(tmp_path / "text.gguf")
