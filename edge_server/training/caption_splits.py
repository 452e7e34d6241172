"""Soundstage clips with free captions, and how much of a clip each stage may see.

:class:`FreelyCaptioned` is what both stages know of a clip in a study of alignments: one free caption,
written once, and questions. :class:`CaptionsAlone` is what an alignment that needs no labels sees of it:
whoever asks it for anything else is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from edge_server.data.annotations import Caption
from edge_server.data.soundstage.dataset import Split
from edge_server.data.soundstage.free_captions import free_caption
from edge_server.errors import DatasetError
from edge_server.model.link import Link
from edge_server.training.losses import UNKNOWN
from edge_server.training.soundstage import SoundstageSplit

_STREAM = 20


@dataclass(frozen=True)
class FreelyCaptioned(SoundstageSplit):
    """A split whose clips each have one free caption, for picture and sound alike, as VALOR's have."""

    captions: tuple[str, ...] = ()

    @classmethod
    def of(cls, split: Split, seed: int) -> FreelyCaptioned:
        """Write each clip's caption, once.

        Args:
            split: the clips.
            seed: of the captions.
        """
        captions = tuple(
            free_caption(scene, np.random.default_rng([seed, _STREAM, clip]))
            for clip, scene in enumerate(split.scenes)
        )
        return cls(split, captions)

    def caption(self, clip: int) -> Caption:
        """The clip's caption, the same for all of it."""
        return Caption(*(self.captions[clip],) * 3)

    def description(self, clip: int, rng: np.random.Generator) -> str:
        """The clip's caption."""
        return self.captions[clip]


@dataclass(frozen=True)
class CaptionsAlone:
    """Implements :class:`edge_server.training.split.TrainingSplit` with clips and captions, and no label.

    Attributes:
        captioned: clips and captions; nothing else of it is looked at.
        notes: what the foundation wrote down of each caption that it read, by slot; the first so many clips
            have one.
        places: words of each slot, for clips that have no note.
    """

    captioned: FreelyCaptioned
    notes: Sequence[Mapping[str, tuple[str, ...]]] = ()
    places: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.captioned)

    def encode(self, link: Link, slot: str, begin: int, end: int) -> Tensor:
        """Encoder tokens of clips begin to end - 1, [B, P, D]."""
        return self.captioned.encode(link, slot, begin, end)

    def has(self, clip: int, slot: str) -> bool:
        """Always."""
        return True

    def caption(self, clip: int) -> Caption:
        """The clip's caption."""
        return self.captioned.caption(clip)

    def dictated(self, clip: int, slot: str) -> Sequence[str]:
        """What the foundation wrote down of the clip's caption.

        Raises:
            DatasetError: no notes were taken.
        """
        if not self.places:
            raise DatasetError("dictation: clips with captions have no words for places; take notes first")
        return self.notes[clip][slot] if clip < len(self.notes) else (UNKNOWN,) * self.places[slot]

    def questions(self, clip: int, most: int, rng: np.random.Generator) -> list[tuple[str, str]]:
        """Refused: answers are labels.

        Raises:
            DatasetError: always.
        """
        raise DatasetError("questions: an alignment from captions sees none")

    def description(self, clip: int, rng: np.random.Generator) -> str:
        """The clip's caption."""
        return self.caption(clip).full
