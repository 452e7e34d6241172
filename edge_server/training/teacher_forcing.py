"""Teacher forcing: the foundation reads contexts with questions and right answers; the answers are scored.

Rows of several questions are packed (:mod:`edge_server.training.packing`); every answer token sees the right
ones before it. Called by fine-tuning, and by the study, which scores whole splits this way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from edge_server.model import tokenizer as tk
from edge_server.model.link import Link
from edge_server.model.prompt import Piece, Slots, context_pieces, embed_pieces, question_pieces
from edge_server.training.losses import IGNORE
from edge_server.training.packing import CONTEXT, packed_mask, packed_positions


@dataclass
class Row:
    """A context with questions and their answers, to be learned.

    Attributes:
        pieces: language token ids and embeddings, in order.
        labels: for each position, the language token that stands there if it is to be learned, else IGNORE.
        blocks: for each position, the block it belongs to (see ``packing``).
        special: special tokens of the foundation's tokenizer.
        media: whether it is about what fills slots: a LoRA may be for such rows only.
    """

    pieces: list[Piece]
    labels: list[int]
    blocks: list[int]
    special: tk.SpecialIds = tk.OWN_IDS
    media: bool = False

    @classmethod
    def about(cls, slots: Slots, special: tk.SpecialIds = tk.OWN_IDS, context: Sequence[int] = ()) -> Row:
        """A row with its context: what fills which slot, or views, and language tokens of text."""
        row = cls([], [], [], special, bool(slots))
        for piece in (special.opening, *context_pieces(slots, context, special)):
            row._append(piece, CONTEXT)
        return row

    def ask(self, question: Piece, answer: Sequence[int], *, ends: bool = True) -> None:
        """Add a question, and the language tokens of its answer, which are to be learned.

        Args:
            question: language token ids, or embeddings.
            answer: language token ids.
            ends: whether the answer ends there, which is to be learned too.
        """
        block = self.blocks[-1] + 1
        for piece in question_pieces(question, self.special):
            self._append(piece, block)
        ids = [*answer, self.special.eos] if ends else list(answer)
        self._append(ids, block)
        self.labels[-len(ids) :] = ids

    def _append(self, piece: Piece, block: int) -> None:
        self.pieces.append(piece)
        self.labels += [IGNORE] * len(piece)
        self.blocks += [block] * len(piece)


@dataclass(frozen=True)
class AnswerLogits:
    """What the foundation says where it is to say an answer; K language tokens in all.

    Attributes:
        logits_KV: over the vocabulary.
        targets_K: the language tokens that are right.
        rows_K: which row of the batch each belongs to.
        blocks_K: which block of its row (the first question is block 1).
    """

    logits_KV: Tensor
    targets_K: Tensor
    rows_K: Tensor
    blocks_K: Tensor


def answer_logits(link: Link, rows: Sequence[Row]) -> AnswerLogits:
    """Run the foundation over a batch of rows; every answer token sees the right ones before it."""
    embedding = link.embedding
    embedded = [embed_pieces(embedding, row.pieces) for row in rows]
    longest = max(len(e) for e in embedded)
    x_BLE = torch.stack([F.pad(e, (0, 0, 0, longest - len(e))) for e in embedded])
    x_BLE = x_BLE.to(embedding.weight.dtype)
    labels, blocks, positions = (
        torch.tensor([part + [rest] * (longest - len(part)) for part in parts], device=link.device)
        for parts, rest in (
            ([row.labels for row in rows], IGNORE),
            ([row.blocks for row in rows], CONTEXT),
            ([packed_positions(row.blocks) for row in rows], 0),
        )
    )
    media = [row.media for row in rows]
    hidden = link.hidden_states(x_BLE, packed_mask(blocks), positions, media)[:, :-1]
    labels = labels[:, 1:]
    learned = labels != IGNORE
    # Logits only where something is learned: answers are few among many positions.
    with link.precision():
        logits = F.linear(hidden[learned], link.vocabulary).float()
    return AnswerLogits(logits, labels[learned], learned.nonzero()[:, 0], blocks[:, 1:][learned])


def answer_loss(link: Link, rows: Sequence[Row]) -> tuple[Tensor, float]:
    """Cross-entropy of the answers in a batch of rows, and the share of their tokens that are right."""
    answers = answer_logits(link, rows)
    right = (answers.logits_KV.argmax(-1) == answers.targets_K).float().mean().item()
    return F.cross_entropy(answers.logits_KV, answers.targets_K), right
