"""The foundation model: a causal multimodal LLM (Qwen2 class), as it begins.

How its prompt is laid out: :mod:`edge_server.model.prompt`.
"""

from __future__ import annotations

import math

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from edge_server.model import tokenizer as tk
from edge_server.model.config import FoundationConfig

_LOOK_BACK_BIAS = 10.0
_LOOK_UP_GAIN = 1.5
# Rotary dimensions that tell neighbours apart, and those that turn within a caption's length.
_FAST_PAIRS = 3
_TURNING_PAIRS = 5


def build_foundation(config: FoundationConfig) -> Qwen2ForCausalLM:
    """A foundation with random weights (drawn from torch's current default generator).

    The heads of the first two blocks start out as induction heads (:func:`_look_back`, :func:`_look_up`):
    mimetic initialisation (Trockman and Kolter 2023), for what a small model has to find in its context.
    """
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.heads,
            max_position_embeddings=config.max_positions,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            rms_norm_eps=config.norm_eps,
            tie_word_embeddings=True,
            bos_token_id=tk.BOS_ID,
            eos_token_id=tk.EOS_ID,
            pad_token_id=tk.PAD_ID,
            attention_dropout=0.0,
            # 1 / sqrt(hidden_size): the class default is meant for wider models, and starts this one slowly.
            initializer_range=config.hidden_size**-0.5,
        )
    )
    with torch.no_grad():
        for layer in model.model.layers:
            # Blocks begin by adding little to what they are given (GPT-2's scaling).
            layer.mlp.down_proj.weight.mul_((2 * config.layers) ** -0.5)
    _look_back(model, config)
    _look_up(model, config)
    return model


def _look_back(model: Qwen2ForCausalLM, config: FoundationConfig) -> None:
    """Let head i of the first block begin by telling each token what stands i positions before it.

    Finding a fact again needs such a head (half of an induction head, Olsson et al. 2022), and a small model
    takes thousands of steps to discover one; here the weights say it from the start. In the fastest rotary
    dimensions the key's bias is (a, 0) and the query's is the same turned back by i positions, so that their
    product is largest at a distance of i. What is found is a projection, the same for every head, which each
    head writes into dimensions of its own.
    """
    head_dim = config.hidden_size // config.heads
    half = head_dim // 2
    attention = model.model.layers[0].self_attn
    with torch.no_grad():
        attention.v_proj.weight.copy_(attention.v_proj.weight[:head_dim].repeat(config.heads, 1))
        attention.o_proj.weight.copy_(torch.eye(config.hidden_size))
        for head in range(config.heads):
            for pair in range(min(_FAST_PAIRS, half)):
                angle = -head * config.rope_theta ** (-pair / half)
                first = head * head_dim + pair
                attention.k_proj.bias[first] = _LOOK_BACK_BIAS
                attention.q_proj.bias[first] = _LOOK_BACK_BIAS * math.cos(angle)
                attention.q_proj.bias[first + half] = _LOOK_BACK_BIAS * math.sin(angle)


def _look_up(model: Qwen2ForCausalLM, config: FoundationConfig) -> None:
    """Let head i of the second block begin by looking for what followed a token like this, i positions on.

    The other half of an induction head: its queries read what the first block wrote about the token itself,
    its keys what it wrote about the token i positions before, in the rotary dimensions that turn too slowly
    to tell places apart.
    """
    head_dim = config.hidden_size // config.heads
    half = head_dim // 2
    slow = [i for i in range(head_dim) if i % half >= min(_TURNING_PAIRS, half - 1)]
    attention = model.model.layers[1].self_attn
    with torch.no_grad():
        for head in range(config.heads):
            for i in slow:
                row = head * head_dim + i
                for projection, read in ((attention.q_proj, 0), (attention.k_proj, head)):
                    projection.weight[row] = 0.0
                    projection.weight[row, read * head_dim + i] = _LOOK_UP_GAIN
