"""Clips and questions of one's own to train on (:mod:`edge_server.data.questions_file`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from device_agent.cotrain.questions_file import OwnClip
from device_agent.errors import MediaError
from device_agent.media.clip import Clip
from edge_server.data.annotations import Caption, QuestionRow, questions_by_clip
from edge_server.data.questions_file import OwnMedia
from edge_server.errors import DatasetError
from edge_server.model import tokenizer as tk
from edge_server.model.link import Link
from edge_server.model.modality import MODALITIES
from edge_server.training.modality import TRAINING


@dataclass(frozen=True)
class OwnSplit:
    """Implements :class:`edge_server.training.split.TrainingSplit` with questions about one's own clips.

    Attributes:
        media: reads the clips.
        clips: what is asked about; all of them can be read.
        threads: clips that are decoded at once.
        asked: every question; ``clip`` indexes ``clips``.
    """

    media: OwnMedia
    clips: tuple[OwnClip, ...]
    threads: int = 1
    asked: tuple[QuestionRow, ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.clips)

    @torch.inference_mode()
    def encode(self, link: Link, slot: str, begin: int, end: int) -> Tensor:
        """Encoder tokens of clips begin to end - 1, [B, P, D], float32; of silence or black where one lacks
        the slot.

        Raises:
            DatasetError: a file can no longer be read.
        """
        encoder = link.encoder(slot).eval()
        with link.precision():
            media = [TRAINING[slot].decoded(clip) for clip in self._read(range(begin, end))]
            inputs = torch.stack([encoder.front_end(torch.tensor(m, device=link.device)) for m in media])
            return torch.as_tensor(encoder(inputs)).float()

    def has(self, clip: int, slot: str) -> bool:
        """Whether a clip shows, or sounds."""
        with self._unchanged():
            return not self.media.modalities(self.clips[clip]).isdisjoint(MODALITIES[slot].wire)

    def caption(self, clip: int) -> Caption:
        """A clip in words."""
        raise DatasetError(f"{self.media.folder} has no captions: stage 1 cannot learn from it")

    def dictated(self, clip: int, slot: str) -> Sequence[str]:
        """The word for each place of a slot."""
        raise DatasetError(f"{self.media.folder} has no word for each place: dictation_weight must be 0")

    def questions(self, clip: int, most: int, rng: np.random.Generator) -> list[tuple[str, str]]:
        """Some of a clip's own questions, each at most once."""
        of_clip = self._by_clip[clip]
        return [(of_clip[i].text, of_clip[i].answer) for i in rng.permutation(len(of_clip))[:most]]

    def description(self, clip: int, rng: np.random.Generator) -> str:
        """A clip in words, as an answer."""
        raise DatasetError(f"{self.media.folder} has no descriptions: describe_odds must be 0")

    @cached_property
    def _by_clip(self) -> tuple[tuple[QuestionRow, ...], ...]:
        return questions_by_clip(self.asked, len(self))

    def _read(self, clips: Iterable[int]) -> list[Clip]:
        with ThreadPoolExecutor(self.threads) as pool, self._unchanged():
            return list(pool.map(lambda i: self.media.read(self.clips[i]), clips))

    @contextmanager
    def _unchanged(self) -> Iterator[None]:
        """The survey could read every clip: one that cannot be read now was changed since."""
        try:
            yield
        except MediaError as error:
            raise DatasetError(f"{self.media.folder}: changed while it was read: {error}") from error


def spoken(link: Link, questions: Iterable[QuestionRow]) -> tuple[QuestionRow, ...]:
    """Questions whose answers are written as a link's tokenizer would say them: in its case and spacing."""
    return tuple(replace(q, answer=_said(link, q.answer)) for q in questions)


def _said(link: Link, text: str) -> str:
    return tk.decode(link.tokenizer, tk.encode(link.tokenizer, text))
