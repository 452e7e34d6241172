"""The layout of a foundation's prompt. Light to import beside torch.

    <bos> <visual> V </visual> <audio> A </audio> <text> context <question> question <answer> answer <eos>
    <bos> <visual> front camera V1 </visual> <visual> left camera V2 </visual> <audio> left microphone A ...

V and A are received feature tokens, put in place of language-token embeddings; slots that a question does
not use are left out. In pretraining the same slots hold words (what is seen, what is heard), so that the
foundation knows what to look for there before it ever sees a feature token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_server.model import tokenizer as tk
from edge_server.model.modality import MODALITIES

_TAG_GAIN = 5.0

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
