"""Rooms in words, before any device's tokens: the foundation learns which of two pictures is whose.

    rooms, drawn anew ─▶ what each view shows, in dictated words ─▶ labels, tags ─▶ questions ─▶ foundation

Receivers were taught to fill each slot with the embeddings of certain words (*dictation*,
:mod:`edge_server.training.alignment`). The same words stand here in their place, as long as what is received,
so that looking one thing up in two views is learned from as many rooms as it takes, and without a channel.
The foundation alone learns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from edge_server.data.soundstage.room import Room, ViewName, sample_room
from edge_server.model.link import Link
from edge_server.training.loop import Schedule
from edge_server.training.modality import TRAINING
from edge_server.training.room_rows import Asking, RoomRow, RoomRows, rooms_loss, slot_of


@dataclass(frozen=True)
class RoomWordsTraining:
    """How rooms in words are learned."""

    schedule: Schedule
    """Steps and learning rate."""
    asking: Asking
    """What of a room is shown, and asked."""
    pictures_steps: int = 0
    """The first steps show two pictures and nothing else: looking one thing up in two of them comes first."""
    batch_size: int = 24
    """Rooms a step."""
    micro_batch_size: int = 12
    """Rooms padded to one length."""
    gain: float = 5.0
    """How many times as long as a word's embedding that which stands for it is; received ones are."""
    noise: float = 0.3
    """Standard deviation of what is added to it, as a share of its length."""
    between_weight: float = 0.3
    """Weight of saying half-way what has to be found in one view to be looked for in the other."""
    matched_weight: float = 0.3
    """Weight of saying, where an instrument is in a view, what the one before says of it."""


class RoomWords:
    """The stage as the loop runs it.

    Args:
        link: its LoRA is merged; it is told that it takes views.
        training: how.
        seed: everything random follows from it.
    """

    _STAGE = 23

    def __init__(self, link: Link, training: RoomWordsTraining, seed: int) -> None:
        self.link = link.requires_grad_(False)
        link.foundation.requires_grad_(True)
        self.training = training
        self.seed = seed
        rng = np.random.default_rng([seed, self._STAGE])
        self._rows = RoomRows(link, training.asking, [sample_room(rng) for _ in range(64)])
        # As receivers know them: they do not move with the foundation.
        self._words_VE = training.gain * link.embedding.weight.detach().clone()

    def trainable(self) -> dict[str, nn.Parameter]:
        """All of the foundation."""
        return dict(self.link.foundation.named_parameters())

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of the answers."""
        rng = np.random.default_rng([self.seed, self._STAGE, step])
        rows = [self._row(sample_room(rng), step, rng) for _ in range(self.training.batch_size)]
        rows.sort(key=lambda row: len(row.row.labels))
        size = self.training.micro_batch_size
        losses, figures = zip(
            *(
                rooms_loss(
                    self.link,
                    rows[begin : begin + size],
                    self.training.between_weight,
                    self.training.matched_weight,
                )
                for begin in range(0, len(rows), size)
            ),
            strict=True,
        )
        kinds = sorted({kind for each in figures for kind in each})
        shares = {kind: [each[kind] for each in figures if kind in each] for kind in kinds}
        return torch.stack(losses).mean(), {kind: sum(of) / len(of) for kind, of in shares.items()}

    def _row(self, room: Room, step: int, rng: np.random.Generator) -> RoomRow:
        pictures = step < self.training.pictures_steps
        views = self._rows.two_pictures(rng) if pictures else self._rows.shown(rng)
        shown = {view: self.dictated(room, view, rng) for view in views}
        return self._rows.row(room, shown, rng)

    def dictated(self, room: Room, view: ViewName, rng: np.random.Generator) -> Tensor:
        """What stands for a view, [S, E]."""
        words = TRAINING[slot_of(view)].dictated(room[view])
        ids = [i for word in words for i in self._rows.encode(word)]
        words_SE = self._words_VE[ids]
        noise_SE = torch.from_numpy(rng.standard_normal(words_SE.shape, np.float32)).to(words_SE)
        scale = self.training.noise * words_SE.norm(dim=-1, keepdim=True) / words_SE.shape[-1] ** 0.5
        dictated_SE: Tensor = words_SE + scale * noise_SE
        return dictated_SE
