"""What both stages learn from: clips behind encoders, words for them, questions about them.

Generated clips (:mod:`edge_server.training.soundstage`) have all of it, drawn anew whenever asked; recorded
ones (:mod:`edge_server.training.recorded`, :mod:`edge_server.training.own_data`) have what people wrote down.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from torch import Tensor

from edge_server.data.annotations import Caption
from edge_server.model.link import Link


class TrainingSplit(Protocol):
    """Clips to train on. What a data set does not have, its recipe does not ask for."""

    def __len__(self) -> int:
        """How many clips."""

    def encode(self, link: Link, slot: str, begin: int, end: int) -> Tensor:
        """Encoder tokens of clips begin to end - 1, [B, P, D]; anything where a clip lacks the slot."""

    def has(self, clip: int, slot: str) -> bool:
        """Whether a clip has something for a slot: a photo makes no sound."""

    def caption(self, clip: int) -> Caption:
        """A clip in words."""

    def dictated(self, clip: int, slot: str) -> Sequence[str]:
        """The word for each place of a slot, as many for every clip."""

    def questions(self, clip: int, most: int, rng: np.random.Generator) -> list[tuple[str, str]]:
        """Questions about a clip with their answers, at most so many."""

    def description(self, clip: int, rng: np.random.Generator) -> str:
        """What a clip shows and sounds like, as an answer."""
