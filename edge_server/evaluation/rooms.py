"""Questions that need two devices: with both, with one alone, with one that hardly comes through.

Question i always meets the same channel realisation of a view for a seed, whatever else is shown. Answers
come from the code that serves (:mod:`edge_server.runtime.model_runner`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from device_agent.channel import Channel, ChannelConfig
from edge_server.data.soundstage.room import (
    HELD_OUT_WORDS,
    VIEWS,
    ViewName,
    label_of,
    other_names,
    renamed,
)
from edge_server.data.soundstage.room_dataset import RoomQuestionRow, RoomSplit
from edge_server.engine.ports import FeatureBlock, Prompt
from edge_server.evaluation.accuracy import answer_all
from edge_server.model import tokenizer as tk
from edge_server.model.link import Link
from edge_server.model.modality import MODALITIES
from edge_server.runtime.model_runner import ServedLink
from edge_server.training.room_rows import slot_of
from edge_server.training.rooms import encode_view

Advance = Callable[[int], None]
#: What one of two devices is sent at, where it hardly comes through [dB].
WEAK_SNR_DB = -10.0
_AT_ONCE = 64


@dataclass
class RoomScore:
    """Right answers, by template.

    Attributes:
        right: how many.
        asked: of how many.
    """

    right: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)

    def count(self, question: RoomQuestionRow, right: bool) -> None:
        """Count one answer."""
        self.asked[question.template] += 1
        self.right[question.template] += right

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return self.right.total() / max(self.asked.total(), 1)

    def of(self, template: str) -> float:
        """Share of right answers to one form of question."""
        return self.right[template] / max(self.asked[template], 1)


@dataclass(frozen=True)
class Sending:
    """What of the two views that a question needs is sent, and how.

    Attributes:
        first_db: SNR of the first of them [dB]; None: it is missing.
        second_db: likewise.
        others_db: of all the others [dB]; None: they are not shown.
        renamed: whether devices have names that training never gave them.
    """

    first_db: float | None
    second_db: float | None
    others_db: float | None = None
    renamed: bool = False


class RoomEvaluator:
    """Asks a model the questions of a split of rooms.

    Args:
        link: the model; its transmitters play the devices' part.
        split: rooms and questions.
        token_length: tokens of each view.
        seed: of the channel realisations.
        limit: only the first questions; None: all.
    """

    def __init__(
        self, link: Link, split: RoomSplit, token_length: int, seed: int, limit: int | None = None
    ) -> None:
        self.questions = split.questions[:limit]
        self._tokenizer = link.tokenizer
        self._seed = seed
        self._sent = {view: _sent(link, split, view, token_length) for view in VIEWS}
        self._served = ServedLink(link, bundle_hash="")

    def score(self, sending: Sending, advance: Advance = lambda done: None) -> RoomScore:
        """Accuracy with tokens sent over an AWGN channel."""
        score = RoomScore()
        for begin in range(0, len(self.questions), _AT_ONCE):
            batch = self.questions[begin : begin + _AT_ONCE]
            prompts = [self._prompt(begin + i, question, sending) for i, question in enumerate(batch)]
            for question, answer in zip(batch, answer_all(self._served, prompts), strict=True):
                score.count(question, answer == question.answer)
            advance(len(batch))
        return score

    def _prompt(self, index: int, question: RoomQuestionRow, sending: Sending) -> Prompt:
        snrs_db: dict[ViewName, float | None] = dict.fromkeys(VIEWS, sending.others_db)
        snrs_db.update(zip(question.needs, (sending.first_db, sending.second_db), strict=True))
        rng = np.random.default_rng([self._seed, index, len(VIEWS)])
        names = other_names(HELD_OUT_WORDS, rng) if sending.renamed else {}
        blocks = []
        for number, view in enumerate(VIEWS):
            snr_db = snrs_db[view]
            if snr_db is None:
                continue
            channel = Channel(
                ChannelConfig(model="awgn", snr_db=snr_db), np.random.default_rng([self._seed, index, number])
            )
            reception = channel.transmit(self._sent[view][question.room])
            modality = MODALITIES[slot_of(view)].of_clip
            label = self._ids(renamed(label_of(view, question.ago), names))
            blocks.append(FeatureBlock(modality, reception.x_TC, reception.effective_snr_db, label))
        return Prompt(tuple(blocks), self._ids(renamed(question.text, names)))

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(tk.encode(self._tokenizer, text))


@torch.inference_mode()
def _sent(link: Link, split: RoomSplit, view: ViewName, token_length: int) -> npt.NDArray[np.float32]:
    """What a device sends of every room, [N, token_length, C]."""
    features = torch.from_numpy(encode_view(link, split, view).astype(np.float32))
    return np.asarray(link.send(slot_of(view), features, token_length).numpy())


def rooms_report(
    evaluator: RoomEvaluator, fitted_on: Sequence[RoomQuestionRow], snr_db: float, advance: Advance
) -> dict[str, Any]:
    """Everything that is asked of a model of several devices.

    Args:
        evaluator: asks.
        fitted_on: questions of another split, on which the blind prior is counted.
        snr_db: of devices that come through [dB].
        advance: told of questions that were asked.
    """
    weak = WEAK_SNR_DB
    sendings = {
        "both": Sending(snr_db, snr_db),
        "both, other names": Sending(snr_db, snr_db, renamed=True),
        "everything": Sending(snr_db, snr_db, snr_db),
        "first alone": Sending(snr_db, None),
        "second alone": Sending(None, snr_db),
        "first alone, weak": Sending(weak, None),
        "second alone, weak": Sending(None, weak),
        "first weak": Sending(weak, snr_db),
        "second weak": Sending(snr_db, weak),
    }
    scores = {name: evaluator.score(sending, advance) for name, sending in sendings.items()}
    prior = _blind_prior(evaluator.questions, fitted_on)
    asked = prior.asked
    single = sum(max(scores["first alone"].right[t], scores["second alone"].right[t]) for t in asked) / max(
        asked.total(), 1
    )
    first, second = scores["first alone"], scores["second alone"]
    return {
        "questions": asked.total(),
        "snr_db": snr_db,
        "weak_snr_db": weak,
        "blind_prior": prior.accuracy,
        "accuracy": {name: score.accuracy for name, score in scores.items()},
        # Whichever of the two is better for a form of question: more than any one device has.
        "better_single_device": single,
        "points_above_better_single_device": 100.0 * (scores["both"].accuracy - single),
        "points_below_better_single_device": {
            "first weak": 100.0
            * (_better(second, scores["first alone, weak"]) - scores["first weak"].accuracy),
            "second weak": 100.0
            * (_better(first, scores["second alone, weak"]) - scores["second weak"].accuracy),
        },
        "per_template": {
            template: {
                "questions": asked[template],
                "blind_prior": prior.of(template),
                **{name: score.of(template) for name, score in scores.items()},
            }
            for template in asked
        },
    }


def _better(one: RoomScore, other: RoomScore) -> float:
    return max(one.accuracy, other.accuracy)


def _blind_prior(questions: Sequence[RoomQuestionRow], fitted_on: Sequence[RoomQuestionRow]) -> RoomScore:
    counts: Mapping[str, Counter[str]] = defaultdict(Counter)
    for question in fitted_on:
        counts[question.template][question.answer] += 1
    score = RoomScore()
    for question in questions:
        known = counts[question.template].most_common(1)
        score.count(question, bool(known) and known[0][0] == question.answer)
    return score
