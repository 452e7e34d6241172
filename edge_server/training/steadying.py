"""Steadying: a reworded model learns that other words ask the same, and nothing else of it changes.

Only the foundation moves, and mostly its LoRA alone: what devices have, the embedding that is a part of it,
and what receivers do stay as they are, bit by bit. Several ways, alone or together
(:class:`SteadyingTraining`):

- *further words*: more sentences, and more around them, than the first recipe draws;
- *noisy words*: the first ones, worn down word by word;
- *consistency*: what is said to a question is drawn towards what the model, as it began, says to the same
  question about the same received tokens in the benchmark's words (self-distillation, Kullback-Leibler);
- *the whole foundation*: its blocks learn beside their LoRA. Rank 8 is little room for a small model to read
  what it was never told;
- *the worst of several*: each question is asked in several wordings side by side, and the one that is
  answered worst is learned from.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_server.data.soundstage import further_wordings
from edge_server.data.soundstage.captions import describe
from edge_server.model.link import Link
from edge_server.training.clips import EncodedClips
from edge_server.training.loop import Schedule
from edge_server.training.pretrain_foundation import DESCRIBE_QUESTION
from edge_server.training.rewording import WORDS, RewordedClips, RewordingTraining, Shown, Words
from edge_server.training.soundstage import SoundstageSplit
from edge_server.training.teacher_forcing import AnswerLogits, Row, answer_logits


def _either(template: str, values: Sequence[str], rng: np.random.Generator) -> str:
    """Of the further words, half of them worn down."""
    text = further_wordings.further_wording(template, values, rng)
    return further_wordings.noisy(text, values, rng) if rng.random() < 0.5 else text


_FURTHER = Words(
    further_wordings.further_wording, further_wordings.further_surrounded, further_wordings.further_system
)
#: What questions are drawn in, by name.
DRAWN_IN: Mapping[str, Words] = {
    "first": WORDS,
    "further": _FURTHER,
    "noisy": replace(WORDS, question=further_wordings.noisy_wording),
    "further, noisy": replace(_FURTHER, question=_either),
}


@dataclass(frozen=True)
class SteadyingTraining:
    """How it runs."""

    schedule: Schedule
    """Steps and learning rate."""
    rewording: RewordingTraining
    """Batches, channels, and how often what is asked."""
    words: str = "first"
    """One of :data:`DRAWN_IN`."""
    consistency: float = 0.0
    """Weight of self-distillation beside the cross-entropy of the answers."""
    whole: Literal[True] | None = field(default=None, metadata={"identity_if_set": True})
    """Whether the foundation's blocks learn as well, not its LoRA alone."""
    worst_of: int = 1
    """Wordings of each question, of which the worst answered counts."""


class Steadying(RewordedClips):
    """The stage as the loop runs it.

    Args:
        link: reworded, with its LoRA.
        clips: to ask about.
        training: how.
        seed: everything random follows from it.
    """

    _STAGE = 40

    def __init__(
        self, link: Link, clips: EncodedClips[SoundstageSplit], training: SteadyingTraining, seed: int
    ) -> None:
        self.teacher = copy.deepcopy(link).requires_grad_(False) if training.consistency else None
        self.steadying = training
        super().__init__(link, clips, training.rewording, seed, self._STAGE)
        self.asking.words = DRAWN_IN[training.words]

    def trainable(self) -> dict[str, nn.Parameter]:
        """LoRA matrices; where the whole foundation learns, its blocks and norms as well.

        Its embedding does not: devices that send questions over the analog text path have it too.
        """
        lora = self.link.lora_parameters()
        if not self.steadying.whole:
            return lora
        embedding = self.link.embedding.weight
        return lora | {name: p for name, p in self.link.foundation.named_parameters() if p is not embedding}

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of the answers, and how far they are from those to plain questions."""
        asked = [self._asked_twice(shown) for shown in self.shown(step)]
        answers = answer_logits(self.link, [each.row for each in asked])
        wrong_K = F.cross_entropy(answers.logits_KV, answers.targets_K, reduction="none")
        figures = {"answers": (answers.logits_KV.argmax(-1) == answers.targets_K).float().mean().item()}
        loss_K = wrong_K
        if self.teacher is not None:
            with torch.no_grad():
                told_KV = answer_logits(self.teacher, [each.plain for each in asked]).logits_KV.softmax(-1)
            apart_K = F.kl_div(answers.logits_KV.log_softmax(-1), told_KV, reduction="none").sum(-1)
            loss_K = wrong_K + self.steadying.consistency * apart_K
            figures["apart"] = apart_K.mean().item()
        if self.steadying.worst_of == 1:
            return loss_K.mean(), figures
        return _of_the_worst(loss_K, answers, [each.questions for each in asked]), figures

    def _asked_twice(self, shown: Shown) -> _Twice:
        rng, special = shown.draw.rng, self.link.special
        system = self.asking.system(rng)
        row = Row.about(shown.kept, special, self.encode(system) if system else ())
        plain = Row.about(shown.kept, special)
        questions = []
        for number, drawn in enumerate(self.asking.drawn(shown.scene, shown.given, rng)):
            texts, question = [drawn.text], drawn.question
            if question is not None:
                texts += [self.asking.worded(question, rng) for _ in range(self.steadying.worst_of - 1)]
            for text in texts:
                row.ask(self.asked(text, shown.draw), self.encode(drawn.answer))
                plain.ask(self.encode(text if question is None else question.text), self.encode(drawn.answer))
                questions.append(number)
        if shown.given == frozenset(self.link.slots) and rng.random() < self.training.describe_odds:
            told = self.encode(describe(shown.scene, rng))
            for each in (row, plain):
                each.ask(self.encode(DESCRIBE_QUESTION), told)
            questions.append(len(questions))
        return _Twice(row, plain, questions)


@dataclass(frozen=True)
class _Twice:
    """A clip with questions in some words, and with the same in the benchmark's.

    Attributes:
        row: in some words.
        plain: in the benchmark's, block by block the same questions.
        questions: of each block, which question it is.
    """

    row: Row
    plain: Row
    questions: list[int]


def _of_the_worst(loss_K: Tensor, answers: AnswerLogits, questions: Sequence[Sequence[int]]) -> Tensor:
    """Mean over questions of the loss of the wording that is answered worst.

    Args:
        loss_K: of each language token of an answer.
        answers: says which row and block each belongs to.
        questions: for each row, of each block, which question it is.
    """
    blocks: dict[tuple[int, int], int] = {}
    asked: dict[tuple[int, int], int] = {}
    block_K = [
        blocks.setdefault(where, len(blocks))
        for where in zip(answers.rows_K.tolist(), answers.blocks_K.tolist(), strict=True)
    ]
    question_B = [asked.setdefault((row, questions[row][block - 1]), len(asked)) for row, block in blocks]
    index_K = torch.tensor(block_K)
    ones_B = loss_K.new_zeros(len(blocks)).index_add(0, index_K, torch.ones_like(loss_K))
    loss_B = loss_K.new_zeros(len(blocks)).index_add(0, index_K, loss_K) / ones_B
    worst_Q = loss_K.new_zeros(len(asked)).scatter_reduce(0, torch.tensor(question_B), loss_B, "amax")
    return worst_Q.mean()
