"""The foundation model: a causal multimodal LLM (Qwen2 class) and the layout of its prompt.

    <bos> <visual> V </visual> <audio> A </audio> <text> context <question> question <answer> answer <eos>
    <bos> <visual> front camera V1 </visual> <visual> left camera V2 </visual> <audio> left microphone A ...

V and A are received feature tokens, put in place of language-token embeddings; slots that a question does
not use are left out. In pretraining the same slots hold words (what is seen, what is heard), so that the
foundation knows what to look for there before it ever sees a feature token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from edge_server.model import tokenizer as tk
from edge_server.model.config import FoundationConfig
from edge_server.model.modality import MODALITIES

_LOOK_BACK_BIAS = 10.0
_LOOK_UP_GAIN = 1.5
_TAG_GAIN = 2.5
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


Piece = Sequence[int] | Tensor
"""A run of language token ids, or feature tokens as embeddings [T, E]."""


@dataclass(frozen=True)
class View:
    """What fills a slot, of which there may be several: pictures and sounds of several devices, or times.

    Attributes:
        slot: one of :data:`edge_server.model.modality.MODALITIES`.
        piece: what fills it.
        label: language tokens that say whose it is and from when; none where nothing has to be told apart.
            They stand in front of what fills the slot, and each feature token has their :func:`tag_of`.
    """

    slot: str
    piece: Piece
    label: Sequence[int] = ()


Slots: TypeAlias = Mapping[str, Piece] | Sequence[View]
"""What a question is about: one piece for a slot, or several views."""


def prompt_pieces(
    slots: Slots,
    question: Piece,
    context: Sequence[int] = (),
    ids: tk.SpecialIds = tk.OWN_IDS,
) -> list[Piece]:
    """Lay a prompt out, from ``<bos>`` up to and including ``<answer>``.

    Args:
        slots: what fills which slot; keys are those of :data:`edge_server.model.modality.MODALITIES`. Or
            views, of which one slot may have several.
        question: language token ids, or the question's received embeddings [L, E].
        context: language token ids of text that goes with the question.
        ids: special tokens of the foundation's tokenizer.
    """
    return [ids.opening, *context_pieces(slots, context, ids), *question_pieces(question, ids)]


def context_pieces(slots: Slots, context: Sequence[int] = (), ids: tk.SpecialIds = tk.OWN_IDS) -> list[Piece]:
    """What a question is about: slots and text, in the prompt's order; views of one slot in their own."""
    views = [View(slot, piece) for slot, piece in slots.items()] if isinstance(slots, Mapping) else slots
    pieces: list[Piece] = []
    for slot, modality in MODALITIES.items():
        for view in views:
            if view.slot == slot:
                opens, closes = getattr(ids, modality.opens), getattr(ids, modality.closes)
                pieces += [[opens, *view.label], view.piece, [closes]]
    if len(context):
        pieces.append([ids.text, *context])
    return pieces


def question_pieces(question: Piece, ids: tk.SpecialIds = tk.OWN_IDS) -> list[Piece]:
    """A question, up to and including ``<answer>``."""
    return [ids.asking, question, ids.answering]


def tag_of(embedding: nn.Embedding, label: Sequence[int]) -> Tensor:
    """What is added to each feature token of a view with a label: directions of its words' embeddings, [E].

    A question that names the view finds what it asks for by the same words, wherever in the prompt it stands.
    Directions are seen from the mean of all words: rare ones lie close together, far from zero. Received
    tokens are several times as long as words, and so is a tag, or it would not be seen beside them.
    """
    weight = embedding.weight
    ids = torch.tensor(list(label), dtype=torch.int64, device=weight.device)
    middle = weight.mean(dim=0)
    words = F.normalize(embedding(ids) - middle, dim=-1).mean(dim=0)
    length = _TAG_GAIN * weight.detach().norm(dim=-1).mean()
    tag: Tensor = F.normalize(words, dim=0) * length
    return tag


def embed_pieces(embedding: nn.Embedding, pieces: Sequence[Piece]) -> Tensor:
    """Embeddings of a laid out prompt, [L, E]."""
    device = embedding.weight.device
    parts = [
        piece
        if isinstance(piece, Tensor)
        else embedding(torch.tensor(list(piece), dtype=torch.int64, device=device))
        for piece in pieces
    ]
    return torch.cat(parts)
