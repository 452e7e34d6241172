"""A Llama-class language model with its tokenizer from a GGUF file, as llama.cpp keeps it.

Weights are expanded to float32. llama.cpp stores query and key rows in the order of its own rotary embedding;
they are put back into that of transformers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.initialization import no_init_weights

from edge_server.errors import ModelError

_CONTROL = 3
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
_ELSEWHERE = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}


def read_llama(path: Path) -> tuple[LlamaForCausalLM, Tokenizer]:
    """The model and its tokenizer.

    Raises:
        ModelError: it is no GGUF file of a Llama-class model with a byte-level BPE tokenizer, or what reads
            such files is not installed.
    """
    try:
        from gguf import GGUFReader, dequantize
    except ImportError as error:
        raise ModelError(
            "reading a GGUF file needs gguf, which is not installed; "
            "in a clone of the repository: pip install '.[open]'"
        ) from error
    try:
        reader = GGUFReader(path)
        told = {name: field.contents() for name, field in reader.fields.items()}
        kind = told["general.architecture"], told["tokenizer.ggml.model"]
        if kind != ("llama", "gpt2"):
            raise ModelError(f"{path}: architecture and tokenizer are {kind}; ('llama', 'gpt2') is read")
        config = _config(told)
        weights = {
            _name(tensor.name): _rows(
                tensor.name, np.asarray(dequantize(tensor.data, tensor.tensor_type), np.float32), config
            )
            for tensor in reader.tensors
        }
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{path}: not a GGUF file that can be read: {error}") from error
    config.tie_word_embeddings = "lm_head.weight" not in weights
    with no_init_weights():  # all of them are read
        model = LlamaForCausalLM(config)
    found = model.load_state_dict(weights, strict=False)
    model.tie_weights()
    missing = [name for name in found.missing_keys if name != "lm_head.weight"]
    if missing or found.unexpected_keys:
        raise ModelError(f"{path}: weights that do not fit: {[*missing, *found.unexpected_keys][:3]}")
    return model.eval(), _tokenizer(told)


def _config(told: dict[str, Any]) -> LlamaConfig:
    heads = int(told["llama.attention.head_count"])
    return LlamaConfig(
        vocab_size=len(told["tokenizer.ggml.tokens"]),
        hidden_size=int(told["llama.embedding_length"]),
        intermediate_size=int(told["llama.feed_forward_length"]),
        num_hidden_layers=int(told["llama.block_count"]),
        num_attention_heads=heads,
        num_key_value_heads=int(told["llama.attention.head_count_kv"]),
        head_dim=int(told["llama.embedding_length"]) // heads,
        max_position_embeddings=int(told["llama.context_length"]),
        # Told in float32: 9.999999747378752e-06 was written as 1e-5.
        rms_norm_eps=float(f"{told['llama.attention.layer_norm_rms_epsilon']:.6g}"),
        rope_parameters={"rope_type": "default", "rope_theta": float(told["llama.rope.freq_base"])},
        bos_token_id=int(told["tokenizer.ggml.bos_token_id"]),
        eos_token_id=int(told["tokenizer.ggml.eos_token_id"]),
        pad_token_id=int(told["tokenizer.ggml.padding_token_id"]),
    )


def _name(name: str) -> str:
    part, *rest = name.removesuffix(".weight").split(".")
    if part == "blk":
        return f"model.layers.{rest[0]}.{_OF_BLOCK[rest[1]]}.weight"
    return f"{_ELSEWHERE[part]}.weight"


def _rows(name: str, weight: np.ndarray[Any, Any], config: LlamaConfig) -> Tensor:
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    count = heads.get(name.split(".")[-2])
    if count is not None:
        # Pairs of rows that are turned together stand next to each other there, half a head apart here.
        halves = weight.reshape(count, weight.shape[0] // count // 2, 2, weight.shape[1])
        weight = halves.swapaxes(1, 2).reshape(weight.shape)
    return torch.from_numpy(weight.copy())


def _tokenizer(told: dict[str, Any]) -> Tokenizer:
    tokens, kinds = told["tokenizer.ggml.tokens"], told["tokenizer.ggml.token_type"]
    merges = [tuple(pair.split(" ", 1)) for pair in told["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, kind in zip(tokens, kinds, strict=True)
            if kind == _CONTROL
        ]
    )
    return tokenizer
