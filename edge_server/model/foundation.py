"""The foundation model: a causal multimodal LLM (Qwen2 class) and the layout of its prompt.

    <bos> <visual> V </visual> <audio> A </audio> <text> context <question> question <answer> answer <eos>

V and A are received feature tokens, put in place of language-token embeddings; slots that a question does
not use are left out. In pretraining the same slots hold words (what is seen, what is heard), so that the
foundation knows what to look for there before it ever sees a feature token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from edge_server.model import tokenizer as tk

#: Slots that feature tokens may fill, with the language tokens that open and close them.
SLOTS: dict[str, tuple[int, int]] = {
    "visual": (tk.VISUAL_ID, tk.VISUAL_END_ID),
    "audio": (tk.AUDIO_ID, tk.AUDIO_END_ID),
}

_LOOK_BACK_BIAS = 10.0
_LOOK_BACK_PAIRS = 3


def _look_alike(model: Qwen2ForCausalLM, config: FoundationConfig) -> None:
    """Let every other head beyond the first block begin with keys like its queries.

    Their product is then largest between tokens that hold the same: a word of the question finds itself in
    the context (mimetic initialisation, Trockman and Kolter 2023).
    """
    head_dim = config.hidden_size // config.heads
    with torch.no_grad():
        for layer in model.model.layers[1:]:
            attention = layer.self_attn
            for head in range(0, config.heads, 2):
                rows = slice(head * head_dim, (head + 1) * head_dim)
                attention.k_proj.weight[rows] = attention.q_proj.weight[rows]


@dataclass(frozen=True)
class FoundationConfig:
    """Size of a foundation that is trained from nothing."""

    vocab_size: int
    """Language tokens, special ones included."""
    hidden_size: int = 128
    """Embedding width E."""
    layers: int = 5
    """Decoder blocks."""
    heads: int = 8
    """Attention heads; as many key/value heads."""
    intermediate_size: int = 384
    """Width of the gated MLP."""
    max_positions: int = 512
    """Longest prompt with its answer [language and feature tokens]."""
    rope_theta: float = 1e6
    """Base of the rotary position embedding; large, so that most dimensions compare content, not place."""


def build_foundation(config: FoundationConfig) -> Qwen2ForCausalLM:
    """A foundation with random weights (drawn from torch's current default generator).

    The first block's heads start out looking 0, 1, 2 ... positions back (:func:`_look_back`), half of the
    others' looking for what is like themselves (:func:`_look_alike`).
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
            tie_word_embeddings=True,
            bos_token_id=tk.BOS_ID,
            eos_token_id=tk.EOS_ID,
            pad_token_id=tk.PAD_ID,
            attention_dropout=0.0,
            # 1 / sqrt(hidden_size): the class default is meant for wider models, and starts this one slowly.
            initializer_range=config.hidden_size**-0.5,
        )
    )
    _look_back(model, config)
    _look_alike(model, config)
    return model


def _look_back(model: Qwen2ForCausalLM, config: FoundationConfig) -> None:
    """Let head i of the first block begin by looking i positions back.

    Finding a fact again needs a head that tells each token what stood before it (half of an induction head,
    Olsson et al. 2022). A small model takes thousands of steps to discover that; here the biases of queries
    and keys say it from the start: in the fastest rotary dimensions the key's bias is (a, 0) and the query's
    is the same turned back by i positions, so that their product is largest at a distance of i.
    """
    head_dim = config.hidden_size // config.heads
    half = head_dim // 2
    attention = model.model.layers[0].self_attn
    with torch.no_grad():
        for head in range(config.heads):
            for pair in range(min(_LOOK_BACK_PAIRS, half)):
                angle = -head * config.rope_theta ** (-pair / half)
                first = head * head_dim + pair
                attention.k_proj.bias[first] = _LOOK_BACK_BIAS
                attention.q_proj.bias[first] = _LOOK_BACK_BIAS * math.cos(angle)
                attention.q_proj.bias[first + half] = _LOOK_BACK_BIAS * math.sin(angle)


Piece = Sequence[int] | Tensor
"""A run of language token ids, or feature tokens as embeddings [T, E]."""


def prompt_pieces(slots: Mapping[str, Piece], question: Piece, context: Sequence[int] = ()) -> list[Piece]:
    """Lay a prompt out, from ``<bos>`` up to and including ``<answer>``.

    Args:
        slots: what fills which slot; keys are those of SLOTS.
        question: language token ids, or the question's received embeddings [L, E].
        context: language token ids of text that goes with the question.
    """
    return [[tk.BOS_ID], *context_pieces(slots, context), *question_pieces(question)]


def context_pieces(slots: Mapping[str, Piece], context: Sequence[int] = ()) -> list[Piece]:
    """What a question is about: slots and text, in the prompt's order."""
    pieces: list[Piece] = []
    for slot, (begin, end) in SLOTS.items():
        if slot in slots:
            pieces += [[begin], slots[slot], [end]]
    if len(context):
        pieces.append([tk.TEXT_ID, *context])
    return pieces


def question_pieces(question: Piece) -> list[Piece]:
    """A question, up to and including ``<answer>``."""
    return [[tk.QUESTION_ID], question, [tk.ANSWER_ID]]


def embed_pieces(embedding: nn.Embedding, pieces: Sequence[Piece]) -> Tensor:
    """Embeddings of a laid out prompt, [L, E]."""
    device = embedding.weight.device
    parts = [
        piece if isinstance(piece, Tensor) else embedding(torch.tensor(list(piece), device=device))
        for piece in pieces
    ]
    return torch.cat(parts)


def pieces_length(pieces: Sequence[Piece]) -> int:
    """Positions that a laid out prompt takes."""
    return sum(len(piece) for piece in pieces)
