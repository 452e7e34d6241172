"""Asking a model about tokens that some system brought it, clip by clip.

Shapes: N clips, M of them, T tokens, C reals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edge_server.data.annotations import QuestionRow
from edge_server.evaluation.accuracy import most_frequent_answers
from edge_server.model.link import Link
from edge_server.model.modality import SLOTS
from edge_server.study.semantic.description import Restored
from edge_server.study.teacher_forced import TeacherForcedQuestions
from edge_server.training.clips import EncodedClips
from edge_server.training.soundstage import SoundstageSplit

Counts: TypeAlias = npt.NDArray[np.float64]
"""Of each clip, [N]."""
_RESAMPLED = 2000


class Asked:
    """A split whose clips are sent and asked about.

    Args:
        link: sends and is asked.
        clips: the split behind the link's encoders.
        count: only the first so many clips.
        prior_of: questions whose most frequent answers are said where nothing is known; of another split.
    """

    def __init__(
        self, link: Link, clips: EncodedClips[SoundstageSplit], count: int, prior_of: Sequence[QuestionRow]
    ) -> None:
        self.link = link
        self.questions = TeacherForcedQuestions(clips.split.split, count)
        self.clips = self.questions.clips
        self._features = clips.features
        self._prior = most_frequent_answers(prior_of)
        self.sent = cache(self._sent)

    @cached_property
    def asked_of_each(self) -> Counts:
        """Questions about each clip."""
        return np.array([len(self.questions.of_clip(clip)) for clip in range(self.clips)], np.float64)

    @cached_property
    def prior_of_each(self) -> Counts:
        """Questions of each clip that their template's most frequent answer answers."""
        return np.array(
            [
                sum(self._prior.get(q.template) == q.answer for q in self.questions.of_clip(clip))
                for clip in range(self.clips)
            ],
            np.float64,
        )

    @torch.inference_mode()
    def _sent(self, length: int) -> dict[str, Tensor]:
        """What the heads send of every clip, of each slot, [N, T, C]."""
        sent = {}
        for slot in SLOTS:
            batches = [
                self.link.send(slot, torch.from_numpy(part.astype(np.float32)), length)
                for part in np.array_split(self._features[slot][: self.clips], max(1, self.clips // 64))
            ]
            sent[slot] = torch.cat(batches)
        return sent

    @torch.inference_mode()
    def right(self, got: Restored, clips: Sequence[int] | None = None) -> Counts:
        """Questions that are answered rightly, of each clip.

        Args:
            got: tokens of the clips, in their order.
            clips: which these are; None: all.
        """
        which = range(self.clips) if clips is None else clips
        counts = []
        for begin in range(0, len(which), self.questions.batch_size):
            part = slice(begin, begin + self.questions.batch_size)
            batch = which[part]
            arrived: list[dict[str, Tensor]] = [{} for _ in batch]
            for slot in SLOTS:
                embeddings = self.link.receiver(slot)(got.x[slot][part], got.told_db[slot][part])
                for slots, each in zip(arrived, embeddings, strict=True):
                    slots[slot] = each
            counts += [sum(right) for right in self.questions.right(self.link, batch, arrived)]
        return np.array(counts, np.float64)


def share(right_N: Counts, asked_N: Counts) -> float:
    """Of all questions, those that are right."""
    return float(right_N.sum() / asked_N.sum())


def interval(right_N: Counts, asked_N: Counts, seed: int = 0) -> list[float]:
    """Where the share, or a difference of two, lies with 95 %: bootstrap over clips (Efron 1979).

    Questions about one clip stand or fall together, so clips are drawn, not questions.
    """
    rng = np.random.default_rng(seed)
    clips = len(asked_N)
    weights = rng.multinomial(clips, np.full(clips, 1 / clips), _RESAMPLED)
    shares = (weights @ right_N) / np.maximum(weights @ asked_N, 1.0)
    return [float(bound) for bound in np.quantile(shares, (0.025, 0.975))]


def restored(parts: Mapping[str, tuple[Tensor, Tensor]]) -> Restored:
    """Tokens and what is told of them, of each slot."""
    return Restored(
        {slot: x for slot, (x, _) in parts.items()}, {slot: told for slot, (_, told) in parts.items()}
    )
