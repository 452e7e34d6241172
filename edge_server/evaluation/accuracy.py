"""Accuracy of a model on a split, over a channel, by question type, beside its bounds.

- *blind prior*: the most frequent answer of each template, counted on another split;
- *text oracle*: the foundation, as it was pretrained and frozen, reads the true caption instead of tokens;
  only where clips have captions.

The answers come from the very code that serves (:mod:`edge_server.runtime.model_runner`), the channel is the
device's (:mod:`device_agent.channel`). Question i of a split always meets the same channel realisation for a
seed, so that systems are compared on the same draws.
"""

from __future__ import annotations

import copy
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from peft import PeftModel

from device_agent.channel import Channel, ChannelConfig
from edge_server.data.annotations import QuestionRow
from edge_server.data.soundstage.questions import types
from edge_server.engine.ports import FeatureBlock, Prompt
from edge_server.errors import DatasetError
from edge_server.evaluation.held_out import HeldOut
from edge_server.model import tokenizer as tk
from edge_server.model.link import Link
from edge_server.runtime.computing import EXACT, Precision
from edge_server.runtime.model_runner import ServedLink
from protos import token_snr

Advance = Callable[[int], None]

#: Language tokens that an answer may have, where none that is right is longer.
_USUAL_ANSWER = 8


@dataclass(frozen=True)
class Setting:
    """How questions are asked."""

    channel: ChannelConfig
    """What lies between device and server."""
    token_length: int
    """Tokens per modality."""
    seed: int = 0
    """Of the channel realisations."""


@dataclass
class Score:
    """Right answers, overall and by type."""

    right: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)

    def add(self, question: QuestionRow, answer: str) -> None:
        """Count one answer."""
        self.count(question, answer == question.answer)

    def count(self, question: QuestionRow, right: bool) -> None:
        """Count one question, answered rightly or not."""
        kind = " ".join(question.type)
        self.asked[kind] += 1
        self.right[kind] += right

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return self.right.total() / max(self.asked.total(), 1)

    def to_json(self) -> dict[str, object]:
        """Overall and per type."""
        known = [" ".join(kind) for kind in types()]
        # Recorded questions may be of a type that generated ones never are.
        kinds = known + sorted(self.asked.keys() - set(known))
        return {
            "accuracy": self.accuracy,
            "questions": self.asked.total(),
            "per_type": {
                k: {"accuracy": self.right[k] / self.asked[k], "questions": self.asked[k]}
                for k in kinds
                if self.asked[k]
            },
        }


class Evaluator:
    """Asks a model the questions of a split.

    Args:
        link: the model; its transmitters play the device's part.
        split: clips, questions and, for the text oracle, captions.
        limit: only the first questions; None for all.
        batch_size: questions answered together.
        precision: as for :class:`ServedLink`.
    """

    def __init__(
        self,
        link: Link,
        split: HeldOut,
        limit: int | None = None,
        batch_size: int = 64,
        *,
        precision: Precision = EXACT,
    ) -> None:
        # LoRA learns to read received tokens, not captions: the oracle answers without it.
        self.oracle = None if split.captions is None else ServedLink(without_lora(link), bundle_hash="")
        self.link = link
        self.served = ServedLink(link, bundle_hash="", precision=precision)
        self.questions = split.questions[:limit]
        self.split = split
        self.batch_size = batch_size
        self._features: dict[str, npt.NDArray[np.float16]] = {}
        self._sent: dict[tuple[str, int], npt.NDArray[np.float32]] = {}

    def through_channel(
        self,
        setting: Setting,
        advance: Advance = lambda done: None,
        *,
        slots: Collection[str] | None = None,
        wanted: Callable[[QuestionRow], bool] = lambda question: True,
    ) -> Score:
        """Accuracy with tokens sent over a channel.

        Args:
            setting: how.
            advance: told of questions that were asked.
            slots: only what fills these is sent; None: all that there is.
            wanted: only these questions are asked.
        """
        sent_slots = self.link.slots if slots is None else [slot for slot in self.link.slots if slot in slots]
        sent = {slot: self.sent(slot, setting.token_length) for slot in sent_slots}
        asked = [(index, question) for index, question in enumerate(self.questions) if wanted(question)]

        def prompts() -> Iterator[Prompt]:
            for index, question in asked:
                rng = np.random.default_rng([setting.seed, index])
                channel = Channel(setting.channel, rng)
                blocks = []
                for modality in self.link.config.modalities:
                    if modality.slot not in sent or not self.split.clips.has(question.clip, modality.slot):
                        continue
                    reception = channel.transmit(sent[modality.slot][question.clip])
                    told_T = token_snr.rounded(reception.token_snr_db_T)
                    blocks.append(
                        FeatureBlock(
                            modality.of_clip,
                            reception.x_TC,
                            reception.effective_snr_db,
                            token_snr_db_T=told_T,
                        )
                    )
                yield Prompt(tuple(blocks), self._ids(question.text))

        return self._ask(self.served, prompts(), [question for _, question in asked], advance)

    def text_oracle(self, advance: Advance = lambda done: None) -> Score:
        """Accuracy of the frozen foundation given the true caption as text.

        Raises:
            DatasetError: the split has no captions.
        """
        captions = self.split.captions
        if captions is None or self.oracle is None:
            raise DatasetError("text oracle: the split has no captions to read")
        prompts = (Prompt((), self._ids(q.text), self._ids(captions[q.clip].full)) for q in self.questions)
        return self._ask(self.oracle, prompts, self.questions, advance)

    def blind_prior(self, fitted_on: Sequence[QuestionRow]) -> Score:
        """Accuracy of the most frequent answer of each template, counted on another split's."""
        answers = most_frequent_answers(fitted_on)
        score = Score()
        for question in self.questions:
            score.add(question, answers.get(question.template, ""))
        return score

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(tk.encode(self.link.tokenizer, text))

    def _ask(
        self,
        served: ServedLink,
        prompts: Iterator[Prompt],
        questions: Sequence[QuestionRow],
        advance: Advance,
    ) -> Score:
        score = Score()
        longest = max((len(self._ids(answer)) for answer in {q.answer for q in questions}), default=0)
        room = max(_USUAL_ANSWER, longest + 1)
        for begin in range(0, len(questions), self.batch_size):
            batch = questions[begin : begin + self.batch_size]
            for question, answer in zip(
                batch, answer_all(served, [next(prompts) for _ in batch], room), strict=True
            ):
                score.add(question, answer)
            advance(len(batch))
        return score

    @torch.inference_mode()
    def sent(self, slot: str, token_length: int) -> npt.NDArray[np.float32]:
        """What each clip's device sends, [N, token_length, C]; computed once."""
        if (slot, token_length) in self._sent:
            return self._sent[slot, token_length]
        if slot not in self._features:
            clips = max((q.clip for q in self.questions), default=-1) + 1
            batch = self.split.encoder_batch
            parts = [
                self.split.clips.encode(self.link, slot, begin, min(begin + batch, clips)).half().numpy()
                for begin in range(0, clips, batch)
            ]
            self._features[slot] = np.concatenate(parts)
        features = torch.from_numpy(self._features[slot].astype(np.float32))
        sent = self._sent[slot, token_length] = np.asarray(
            self.link.send(slot, features, token_length).numpy()
        )
        return sent


def without_lora(link: Link) -> Link:
    """A copy of a link whose foundation is as it was before fine-tuning."""
    bare = copy.deepcopy(link)
    if isinstance(bare.foundation, PeftModel):
        bare.foundation = bare.foundation.unload()
    return bare


@dataclass(frozen=True)
class Said:
    """An answer with the probabilities of its language tokens."""

    text: str
    """The answer."""
    logprobs: tuple[float, ...]
    """Natural logarithms of these, the end token's not counted."""
    doubt: float = 0.0
    """How probable it was that the model says it is not sure: :attr:`edge_server.engine.ports.Step.doubt`."""


def answer_all(
    served: ServedLink, prompts: Sequence[Prompt], max_new_tokens: int = _USUAL_ANSWER
) -> list[str]:
    """Greedy answers to a batch of prompts."""
    return [said.text for said in say_all(served, prompts, max_new_tokens)]


def say_all(served: ServedLink, prompts: Sequence[Prompt], max_new_tokens: int = _USUAL_ANSWER) -> list[Said]:
    """Greedy answers to a batch of prompts, and how probable each is."""
    state, steps = served.prefill(prompts)
    doubts = [step.doubt for step in steps]
    answers: list[list[int]] = [[] for _ in prompts]
    logprobs: list[list[float]] = [[] for _ in prompts]
    open_rows = list(range(len(prompts)))
    for _ in range(max_new_tokens):
        still = []
        for position, (row, step) in enumerate(zip(open_rows, steps, strict=True)):
            if step.token_id != served.eos_id:
                answers[row].append(step.token_id)
                logprobs[row].append(math.log(max(step.probability, 1e-30)))
                still.append(position)
        if not still:
            break
        state = served.keep(state, still)
        open_rows = [open_rows[position] for position in still]
        state, steps = served.decode(state)
    return [
        Said(served.text(ids), tuple(found), doubt)
        for ids, found, doubt in zip(answers, logprobs, doubts, strict=True)
    ]


def most_frequent_answers(questions: Sequence[QuestionRow]) -> dict[str, str]:
    """The answer that each template has most often."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for question in questions:
        counts[question.template][question.answer] += 1
    return {template: counter.most_common(1)[0][0] for template, counter in counts.items()}
