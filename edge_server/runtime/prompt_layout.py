"""Prompts of many users, one after another as embeddings: language tokens looked up, blocks received.

prompts ─▶ receivers, one pass per slot ─┐
    └────▶ ids of all, packed [N] ───────┴─▶ embeddings, packed [N, E]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from edge_server.engine.ports import FeatureBlock, Prompt
from edge_server.model.answering import AnswersWith
from edge_server.model.modality import QUESTION, place_of
from edge_server.model.prompt import Piece, View, prompt_pieces, question_pieces, tag_of
from edge_server.runtime.packing import Integers
from edge_server.runtime.receivers import Reception, receive_text
from edge_server.runtime.transfer import on_device


@dataclass(frozen=True)
class LaidOut:
    """Prompts as embeddings, the longest first.

    Attributes:
        x_NE: of all prompts, one after another, [N, E].
        lengths: positions of each.
        order: which prompt comes when.
        positions_3N: in time, row and column, of each; None: one after another.
    """

    x_NE: Tensor
    lengths: list[int]
    order: list[int]
    positions_3N: Integers | None = None


class PromptLayout:
    """Embeds prompts for one link.

    Args:
        link: whole, or the half that answers; its embedding and receivers are used as they are.
    """

    def __init__(self, link: AnswersWith) -> None:
        self._link = link
        self._receptions = {slot: Reception(link.receiver(slot)) for slot in link.slots}
        # Stands in a row of language token ids for a position that something received will fill.
        self._mark = {place: -1 - index for index, place in enumerate((*link.slots, QUESTION))}

    def embed(self, prompts: Sequence[Prompt]) -> LaidOut:
        """Lay prompts out."""
        rows = [self._ids(prompt) for prompt in prompts]
        order = sorted(range(len(rows)), key=lambda row: -len(rows[row]))
        ids_N = np.fromiter(chain.from_iterable(rows[row] for row in order), np.int64)
        device = self._link.device
        ids_on_device_N = on_device(np.maximum(ids_N, 0), device)
        x_NE = self._link.embedding.weight.index_select(0, ids_on_device_N)
        blocks: dict[str, list[FeatureBlock]] = {}
        for row in order:
            for block in prompts[row].blocks:
                blocks.setdefault(_slot_of(block), []).append(block)
        for slot, received in blocks.items():
            where = on_device(np.flatnonzero(ids_N == self._mark[slot]), device)
            filled_NE = self._receive(slot, received)
            if any(block.label for block in received):
                filled_NE = filled_NE + self._tags(received)
            x_NE.index_copy_(0, where, filled_NE.to(x_NE.dtype))
        return LaidOut(x_NE, [len(rows[row]) for row in order], order)

    def embed_question(self, prompt: Prompt) -> Tensor:
        """The part of a prompt that asks, from its first token to the one that opens the answer, [S, E]."""
        pieces = question_pieces(prompt.question_ids, self._link.special)
        ids_S = np.fromiter((int(i) for i in chain.from_iterable(pieces)), np.int64)
        return self._link.embedding.weight.index_select(0, on_device(ids_S, self._link.device))

    def _ids(self, prompt: Prompt) -> list[int]:
        """A prompt's language token ids, with marks where something received goes."""
        views: list[View] = []
        question: Piece = prompt.question_ids
        for block in prompt.blocks:
            slot, length = _slot_of(block), len(block.x_TC)
            if slot == QUESTION:
                question = [self._mark[slot]] * length
            else:
                marks = [self._mark[slot]] * self._link.config.receiver.embeddings(length)
                views.append(View(slot, marks, block.label))
        pieces = prompt_pieces(views, question, prompt.context_ids, self._link.special)
        return [int(i) for i in chain.from_iterable(pieces)]

    def _receive(self, slot: str, blocks: Sequence[FeatureBlock]) -> Tensor:
        """Embeddings of all blocks of a slot, one after another."""
        device = self._link.device
        x_NC = on_device(np.concatenate([block.x_TC for block in blocks]), device)
        snr_db_N = on_device(np.concatenate([block.told_db() for block in blocks]), device)
        if slot == QUESTION:
            return receive_text(self._link.text_receiver, x_NC, snr_db_N)
        return self._receptions[slot](x_NC, snr_db_N, [len(block.x_TC) for block in blocks])

    def _tags(self, blocks: Sequence[FeatureBlock]) -> Tensor:
        """What labels add to the embeddings of blocks of a slot, one after another."""
        embedding, receiver = self._link.embedding, self._link.config.receiver
        nothing = embedding.weight.new_zeros(embedding.embedding_dim)
        tags = [tag_of(embedding, block.label) if block.label else nothing for block in blocks]
        counts = [receiver.embeddings(len(block.x_TC)) for block in blocks]
        return torch.cat([tag.expand(count, -1) for tag, count in zip(tags, counts, strict=True)])


def _slot_of(block: FeatureBlock) -> str:
    place = place_of(block.modality)
    assert place is not None  # noqa: S101 - the prompt was checked
    return place
