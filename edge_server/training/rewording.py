"""Rewording, after fine-tuning: the same questions in many wordings, and when to say *not sure*.

Four stages on a trained link, whose tokenizer gets the words of the wordings first:

- *reworded text*: the foundation, without its LoRA, reads scenes in words and answers questions as people
  ask them (:mod:`edge_server.data.soundstage.wordings`), with system prompts in front of them;
- *reworded clips*: LoRA, heads and receivers learn the same through the noisy channel;
- *polished clips*: the same again, for longer and more slowly;
- *settled clips*: once more, at a still lower rate, for what was lost of the benchmark's own words.

In all, what cannot be answered is to be answered with :data:`UNSURE`: questions about something else,
pictures and sounds from elsewhere (:mod:`edge_server.data.soundstage.outsiders`), and questions that need
what a clip does not show. The foundation alone never reads received tokens: a study that starts from it
starts from text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn
from transformers import PreTrainedModel

from edge_server.data.soundstage import outsiders, phrasing_grammar, wordings
from edge_server.data.soundstage.captions import describe
from edge_server.data.soundstage.questions import Question, draw_questions
from edge_server.data.soundstage.scene import Scene, sample_scene
from edge_server.model import tokenizer as tk
from edge_server.model.config import FoundationConfig
from edge_server.model.link import Link
from edge_server.model.prompt import Piece
from edge_server.training.clips import EncodedClips, encode_media
from edge_server.training.forward import Draw, UplinkTraining, draw_of, receive_clips, receive_text
from edge_server.training.loop import Schedule, run_stage
from edge_server.training.modality import TRAINING
from edge_server.training.pretrain_foundation import DESCRIBE_QUESTION
from edge_server.training.soundstage import SoundstageSplit
from edge_server.training.teacher_forcing import Row, answer_loss

STAGES = ("reworded-text", "reworded-clips", "polished-clips", "settled-clips")
#: What a model says that it cannot know.
UNSURE = "not sure"


@dataclass(frozen=True)
class RewordingTraining:
    """How the stages run."""

    text: Schedule
    """Of reworded text."""
    clips: Schedule
    """Of reworded clips."""
    polish: Schedule
    """Of polished clips."""
    settle: Schedule
    """Of settled clips."""
    uplink: UplinkTraining
    """Channels and token lengths."""
    text_batch_size: int = 16
    """Scenes a step."""
    batch_size: int = 16
    """Clips a step."""
    questions: int = 12
    """Questions about one scene, at most."""
    plain_odds: float = 0.35
    """How often a question is asked in the benchmark's words."""
    outsider_odds: float = 0.15
    """How often a question is about something else."""
    system_odds: float = 0.25
    """How often a system prompt stands in front."""
    missing_odds: float = 0.06
    """How often a clip lacks its picture, and how often its sound."""
    elsewhere_odds: float = 0.06
    """How often a clip's picture is from elsewhere, and how often its sound."""
    analog_odds: float = 0.08
    """How often a question comes over the analog text path."""
    describe_odds: float = 0.06
    """How often a clip is also to be described."""
    most_clips: int = 8000
    """Only the first so many of the training split are asked about."""
    strangers: int = 512
    """Pictures and sounds from elsewhere, of each."""


def wording_words() -> list[str]:
    """Words of the wordings, sorted: each is to be one language token."""
    sentences = [*wordings.training_sentences(), *outsiders.training_sentences(), UNSURE]
    listed = {word for s in sentences for word in re.findall(r"[a-z']+", re.sub("<.*?>", "", s).lower())}
    return sorted(listed | phrasing_grammar.words())


def extended(link: Link, words: Iterable[str]) -> Link:
    """A link whose tokenizer has a language token for each word; it shares everything else.

    The embedding of a new token begins as the mean of those of the pieces it was cut into before.
    """
    tokenizer = tk.extend_tokenizer(link.tokenizer, words)
    size = tokenizer.get_vocab_size()
    described = link.config.foundation
    assert isinstance(described, FoundationConfig)  # noqa: S101 - its tokenizer was trained here
    config = replace(link.config, foundation=replace(described, vocab_size=size))
    lora = _without_lora(link)
    foundation = link.foundation
    assert isinstance(foundation, PreTrainedModel)  # noqa: S101 - narrows the type
    known = link.tokenizer.get_vocab_size()
    before = link.embedding.weight.detach().clone()
    foundation.resize_token_embeddings(size, mean_resizing=False)
    with torch.no_grad():
        for token_id in range(known, size):
            pieces = tk.encode(link.tokenizer, tk.decode(tokenizer, [token_id]))
            link.embedding.weight[token_id] = before[pieces].mean(dim=0)
    link.config, link.tokenizer = config, tokenizer
    _with_lora(link, lora)
    return link


def _without_lora(link: Link) -> dict[str, Tensor] | None:
    """Take a link's LoRA off; returns it."""
    if not isinstance(link.foundation, PeftModel):
        return None
    weights = {name: tensor.clone() for name, tensor in get_peft_model_state_dict(link.foundation).items()}
    link.foundation = link.foundation.unload()
    return weights


def _with_lora(link: Link, weights: Mapping[str, Tensor] | None) -> None:
    if weights is not None:
        link.add_lora()
        set_peft_model_state_dict(link.foundation, dict(weights))


@dataclass(frozen=True)
class Words:
    """What questions are drawn in."""

    question: Callable[[str, Sequence[str], np.random.Generator], str]
    """A question in other words, from its template and what fills it."""
    around: Callable[[str, np.random.Generator], str]
    """Any question, with something before or behind it."""
    system: Callable[[np.random.Generator], str]
    """A system prompt."""


#: What the shipped recipe draws.
WORDS = Words(wordings.training_wording, wordings.surrounded, wordings.training_system)


@dataclass(frozen=True)
class Drawn:
    """A question to learn from.

    Attributes:
        text: as it is asked.
        answer: what is right.
        question: the benchmark's question that it is; None of what is about something else.
    """

    text: str
    answer: str
    question: Question | None = None


class Asking:
    """Draws questions about scenes, reworded, and what is the right answer where something is missing."""

    def __init__(self, training: RewordingTraining, words: Words = WORDS) -> None:
        self.training = training
        self.words = words

    def drawn(self, scene: Scene, given: frozenset[str], rng: np.random.Generator) -> list[Drawn]:
        """Questions about a scene with their answers.

        Args:
            scene: what they are about.
            given: slots that show it.
            rng: source of all randomness.
        """
        found = []
        for question in draw_questions(scene, self.training.questions, rng):
            if rng.random() < self.training.outsider_odds:
                text = self.words.around(outsiders.training_question(rng), rng)
                found.append(Drawn(text, UNSURE))
                continue
            known = question.template.needed <= given
            answer = question.answer if known else UNSURE
            found.append(Drawn(self.worded(question, rng), answer, question))
        return found

    def pairs(self, scene: Scene, given: frozenset[str], rng: np.random.Generator) -> list[tuple[str, str]]:
        """As :meth:`drawn`: texts and answers alone."""
        return [(each.text, each.answer) for each in self.drawn(scene, given, rng)]

    def worded(self, question: Question, rng: np.random.Generator) -> str:
        """A question, now and then in the benchmark's words, mostly in others."""
        if rng.random() < self.training.plain_odds:
            return question.text
        return self.words.question(question.template.text, question.values, rng)

    def system(self, rng: np.random.Generator) -> str:
        """What stands in front of a conversation; mostly nothing."""
        return self.words.system(rng) if rng.random() < self.training.system_odds else ""


class RewordedText:
    """Stage *reworded text*: the foundation alone, on text."""

    _STAGE = 7

    def __init__(self, link: Link, training: RewordingTraining, seed: int) -> None:
        self.link = link.requires_grad_(False)
        link.foundation.requires_grad_(True)
        self.training = training
        self.seed = seed
        self.asking = Asking(training)

    def trainable(self) -> dict[str, nn.Parameter]:
        """All of the foundation."""
        return dict(self.link.foundation.named_parameters())

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of the answers."""
        rng = np.random.default_rng([self.seed, self._STAGE, step])
        rows = [self._row(sample_scene(rng), rng) for _ in range(self.training.text_batch_size)]
        rows.sort(key=lambda row: len(row.labels))
        half = len(rows) // 2
        losses, right = zip(
            *(answer_loss(self.link, part) for part in (rows[:half], rows[half:])), strict=True
        )
        return torch.stack(losses).mean(), {"answers": sum(right) / len(right)}

    def _row(self, scene: Scene, rng: np.random.Generator) -> Row:
        encode, slots = self._encode, tuple(TRAINING)
        shown = {slot: encode(TRAINING[slot].describe(scene, rng)) for slot in slots}
        context = self.asking.system(rng)
        odds = rng.random()
        given = frozenset(slots)
        if odds < 0.35:
            context = f"{context} {describe(scene, rng)}".strip()
            shown = {}
        elif odds < 0.35 + len(slots) * self.training.missing_odds:
            slot = slots[int(rng.integers(len(slots)))]
            del shown[slot]
            given -= {slot}
        elif odds < 0.35 + len(slots) * (self.training.missing_odds + self.training.elsewhere_odds):
            slot = slots[int(rng.integers(len(slots)))]
            shown[slot] = encode(outsiders.training_words(rng))
            given -= {slot}
        elif odds > 0.96:
            shown, given = {}, frozenset()
        row = Row.about(shown, self.link.special, encode(context) if context else ())
        for question, answer in self.asking.pairs(scene, given, rng):
            row.ask(encode(question), encode(answer))
        if len(given) == len(slots) and rng.random() < self.training.describe_odds:
            row.ask(encode(DESCRIBE_QUESTION), encode(describe(scene, rng)))
        return row

    def _encode(self, text: str) -> list[int]:
        return tk.encode(self.link.tokenizer, text)


class RewordedClips:
    """Stages *reworded*, *polished* and *settled clips*: LoRA, heads, receivers, through the noisy channel.

    Args:
        link: its text was reworded.
        clips: to ask about.
        training: how.
        seed: everything random follows from it.
        stage: a number for each stage, so that no two draw the same.
    """

    _STAGE = 8

    def __init__(
        self,
        link: Link,
        clips: EncodedClips[SoundstageSplit],
        training: RewordingTraining,
        seed: int,
        stage: int = _STAGE,
    ) -> None:
        self.stage = stage
        self.link = link.requires_grad_(False)
        for parameter in self.trainable().values():
            parameter.requires_grad_(True)
        self.clips = clips
        self.training = training
        self.seed = seed
        self.asking = Asking(training)
        self.strangers = _strangers(link, training.strangers, seed)

    def trainable(self) -> dict[str, nn.Parameter]:
        """LoRA matrices, heads and receivers."""
        return self.link.lora_parameters() | self.link.link_parameters()

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of the answers."""
        loss, right = answer_loss(self.link, [self._row(shown) for shown in self.shown(step)])
        return loss, {"answers": right}

    def shown(self, step: int) -> Iterator[Shown]:
        """What the clips of a step show; what is drawn of each follows before the next."""
        training = self.training
        draw = draw_of(self.seed, self.stage, step)
        clips = min(len(self.clips), training.most_clips)
        picked = draw.rng.integers(0, clips, training.batch_size)
        elsewhere = self._elsewhere(draw.rng)
        strange = _WithStrangers(self.clips, self.strangers, elsewhere)
        received = receive_clips(self.link, strange, picked, training.uplink, draw)
        for i, clip in enumerate(picked):
            slots = {slot: received[slot][i] for slot in received}
            kept: dict[str, Piece] = dict(slots)
            missing = draw.rng.random()
            for index, slot in enumerate(slots, 1):
                if missing < index * training.missing_odds:
                    del kept[slot]
                    break
            if missing > 0.99:
                kept = {}
            given = frozenset(kept) - frozenset(elsewhere[i])
            yield Shown(self.clips.split.split.scenes[int(clip)], kept, given, draw)

    def _elsewhere(self, rng: np.random.Generator) -> list[dict[str, int]]:
        """For each clip of a batch, which slots show a stranger, and which one."""
        training, slots = self.training, self.link.slots
        drawn: list[dict[str, int]] = []
        for _ in range(training.batch_size):
            odds, both = rng.random(), rng.random() < 0.2
            hit = [slot for i, slot in enumerate(slots) if i <= odds / training.elsewhere_odds < i + 1]
            strange = slots if hit and both else hit
            drawn.append({slot: int(rng.integers(training.strangers)) for slot in strange})
        return drawn

    def _row(self, shown: Shown) -> Row:
        rng = shown.draw.rng
        system = self.asking.system(rng)
        row = Row.about(shown.kept, self.link.special, self.encode(system) if system else ())
        for question, answer in self.asking.pairs(shown.scene, shown.given, rng):
            row.ask(self.asked(question, shown.draw), self.encode(answer))
        if shown.given == frozenset(self.link.slots) and rng.random() < self.training.describe_odds:
            row.ask(self.encode(DESCRIBE_QUESTION), self.encode(describe(shown.scene, rng)))
        return row

    def asked(self, question: str, draw: Draw) -> Piece:
        """A question's language tokens; now and then as they come over the analog text path."""
        ids = self.encode(question)
        # Of a question that says nothing, marks alone, there is nothing to send.
        if draw.rng.random() < self.training.analog_odds and ids:
            return receive_text(self.link, ids, self.training.uplink, draw)
        return ids

    def encode(self, text: str) -> list[int]:
        """Language tokens of a text."""
        return tk.encode(self.link.tokenizer, text)


@dataclass(frozen=True)
class Shown:
    """What a clip of a batch shows.

    Attributes:
        scene: the truth.
        kept: received embeddings of each slot that is there.
        given: slots that show the scene.
        draw: randomness of the step.
    """

    scene: Scene
    kept: dict[str, Piece]
    given: frozenset[str]
    draw: Draw


@dataclass(frozen=True)
class _WithStrangers:
    """A batch's clips, some slots of which show what is not of this world."""

    clips: EncodedClips[SoundstageSplit]
    strangers: Mapping[str, Tensor]
    elsewhere: Sequence[Mapping[str, int]]

    def take(self, slot: str, rows: np.typing.NDArray[np.int64]) -> Tensor:
        """As :meth:`EncodedClips.take`."""
        features = self.clips.take(slot, rows)
        for row, strange in enumerate(self.elsewhere):
            if slot in strange:
                features[row] = self.strangers[slot][strange[slot]]
        return features


def _strangers(link: Link, count: int, seed: int) -> dict[str, Tensor]:
    """Encoder tokens of pictures and sounds from elsewhere, per slot, [count, P, D]."""
    rng = np.random.default_rng([seed, RewordedClips._STAGE])
    return {slot: torch.cat(list(_encoded(link, slot, count, rng))) for slot in link.slots}


def _encoded(link: Link, slot: str, count: int, rng: np.random.Generator) -> Iterator[Tensor]:
    for begin in range(0, count, 32):
        media = np.stack(
            [TRAINING[slot].elsewhere(link.encoder(slot), rng) for _ in range(min(32, count - begin))]
        )
        yield encode_media(link, slot, media)


def reword(
    link: Link,
    clips: EncodedClips[SoundstageSplit],
    training: RewordingTraining,
    seed: int,
    stage: Callable[[str], Path],
) -> Link:
    """All stages on a trained link.

    Args:
        link: fine-tuned; it is changed.
        clips: to ask about.
        training: how.
        seed: everything random follows from it.
        stage: folder of each of :data:`STAGES`.

    Returns:
        The link, with the larger tokenizer.
    """
    link = extended(link, wording_words())
    lora = _without_lora(link)
    run_stage(STAGES[0], RewordedText(link, training, seed), training.text, stage(STAGES[0]))
    _with_lora(link, lora)
    for number, (name, schedule) in enumerate(
        zip(STAGES[1:], (training.clips, training.polish, training.settle), strict=True)
    ):
        again = RewordedClips(link, clips, training, seed, RewordedClips._STAGE + number)
        run_stage(name, again, schedule, stage(name))
    return link
