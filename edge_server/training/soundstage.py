"""Soundstage clips to train on: questions and descriptions are drawn anew each time a clip comes up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from edge_server.data.annotations import Caption
from edge_server.data.soundstage.captions import describe
from edge_server.data.soundstage.dataset import Split, SplitName, load_split
from edge_server.data.soundstage.questions import draw_questions
from edge_server.model.link import Link
from edge_server.training.clips import EncodedClips, encode_batch, encode_clips
from edge_server.training.modality import TRAINING


@dataclass(frozen=True)
class SoundstageSplit:
    """Implements :class:`edge_server.training.split.TrainingSplit` with a generated split."""

    split: Split

    def __len__(self) -> int:
        return len(self.split.scenes)

    def encode(self, link: Link, slot: str, begin: int, end: int) -> Tensor:
        """Encoder tokens of clips begin to end - 1, [B, P, D]."""
        return encode_batch(link, slot, self.split, begin, end)

    def has(self, clip: int, slot: str) -> bool:
        """Always."""
        return True

    def caption(self, clip: int) -> Caption:
        """The split's own caption of a clip."""
        return self.split.captions[clip]

    def dictated(self, clip: int, slot: str) -> Sequence[str]:
        """What is seen, left to right, or heard, first to last, in a fixed number of words."""
        return TRAINING[slot].dictated(self.split.scenes[clip])

    def questions(self, clip: int, most: int, rng: np.random.Generator) -> list[tuple[str, str]]:
        """Questions drawn from the scene; the split's own play no part."""
        return [(q.text, q.answer) for q in draw_questions(self.split.scenes[clip], most, rng)]

    def description(self, clip: int, rng: np.random.Generator) -> str:
        """The whole scene, worded anew."""
        return describe(self.split.scenes[clip], rng)


def encode_split(link: Link, data: Path, split: SplitName, directory: Path) -> EncodedClips[SoundstageSplit]:
    """A split behind a link's encoders, computed where an earlier call did not.

    Args:
        link: its encoders see the clips.
        data: the Soundstage data set.
        split: of it.
        directory: where what the encoders make of it is kept.

    Raises:
        DatasetError: the split is missing, or what is kept is of another number of clips.
    """
    return encode_clips(link, SoundstageSplit(load_split(data, split)), directory, split)
