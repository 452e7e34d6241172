"""Reading: the foundation's LoRA learns to answer from captions in the slot, before any picture is seen.

A caption stands there as the receiver will say it, with a little noise on its embeddings. Questions without a
caption need no lesson: the LoRA is for media only, and the foundation answers them as it always did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from edge_server.model import tokenizer as tk
from edge_server.model.link import Link
from edge_server.training.forward import Draw, draw_of
from edge_server.training.loop import Schedule
from edge_server.training.open_small import asking, listening
from edge_server.training.teacher_forcing import Row, answer_loss
from edge_server.weights.captions import COLOURS, LEVELS, SIDES, Captions
from edge_server.weights.names import ClassName
from edge_server.weights.open_small import HEARD, QUERIES, SEEN
from edge_server.weights.sound_names import OTHERS, SILENCE, SOUNDS

_UNSURE_ODDS = 0.12
_UNTOLD_ODDS = 0.25
_OTHER_SOUND_ODDS = 0.4
_ELSE_ODDS = 0.35
_OF_SOUND = frozenset("hear heard sound speaking talk voice music instrument loud".split())  # noqa: SIM905
_OF_PICTURE = frozenset("see picture photo image shown visible colour color looking".split())  # noqa: SIM905


@dataclass(frozen=True)
class ReadingTraining:
    """How reading runs."""

    schedule: Schedule
    """Steps and learning rate."""
    photos: int = 2
    """Captions of photos a step."""
    drawing_odds: float = 0.15
    """How often one of these is of a drawing."""
    sounds: int = 1
    """Captions of sounds a step."""
    both_odds: float = 0.2
    """How often a sound comes with a picture, and is asked about beside it."""
    questions: int = 6
    """Questions about one caption, at most."""
    noise: float = 0.2
    """Most noise on an embedding, relative to the mean square of all."""


class Reading:
    """Reading as the loop runs it."""

    _STAGE = 12

    def __init__(
        self,
        link: Link,
        names: tuple[ClassName, ...],
        drawings: list[str],
        training: ReadingTraining,
        seed: int,
    ) -> None:
        self.link = link.requires_grad_(False)
        link.add_lora()
        for parameter in self.trainable().values():
            parameter.requires_grad_(True)
        self.names = names
        self.drawings = drawings
        self.training = training
        self.seed = seed
        self.captions = Captions(link.tokenizer, QUERIES)
        self._power = link.embedding.weight.square().mean().sqrt().item()

    def trainable(self) -> dict[str, nn.Parameter]:
        """LoRA matrices."""
        return self.link.lora_parameters()

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of the answers."""
        draw = draw_of(self.seed, self._STAGE, step)
        training = self.training
        rows = [self._photo(draw) for _ in range(training.photos)]
        rows += [self._sound(draw) for _ in range(training.sounds)]
        loss, right = answer_loss(self.link, rows)
        return loss, {"answers": right}

    def _photo(self, draw: Draw) -> Row:
        rng, training = draw.rng, self.training
        if rng.random() < training.drawing_odds:
            name = self.drawings[int(rng.integers(len(self.drawings)))]
            pairs = asking.about_drawing(name, self.drawings, training.questions, rng)
            return self._row({SEEN: self.captions.whole([self.captions.drawing(name)])}, pairs, draw)
        caption, pairs = self._seen(rng)
        if rng.random() < _UNTOLD_ODDS:
            pairs[-1] = listening.about_no_sound(rng)
        if rng.random() < _ELSE_ODDS:
            pairs[0] = asking.about_something_else(rng)
        return self._row({SEEN: caption}, pairs, draw)

    def _seen(self, rng: np.random.Generator) -> tuple[list[int], list[asking.Pair]]:
        most = self.training.questions
        shown = self.names[int(rng.integers(len(self.names)))]
        sure = rng.random() >= _UNSURE_ODDS
        told = rng.random(2) >= _UNTOLD_ODDS
        colour = asking.one(COLOURS[1:], rng) if told[0] else ""
        side = asking.one(SIDES[1:], rng) if told[1] else ""
        pairs = [
            *asking.about_class(shown, self.names, most - 2, rng, sure=sure),
            *asking.some(asking.about_colour(colour, shown.name, rng), 1, rng),
            *asking.some(asking.about_side(side, shown.name, rng), 1, rng),
        ]
        captions = self.captions
        said = [captions.photo(shown, sure=sure), captions.colour(colour), captions.side(side)]
        return captions.whole(said), asking.some(pairs, most, rng)

    def _sound(self, draw: Draw) -> Row:
        rng, most = draw.rng, self.training.questions
        heard = asking.one(OTHERS if rng.random() < _OTHER_SOUND_ODDS else SOUNDS, rng)
        sure = rng.random() >= _UNSURE_ODDS
        level = "" if heard is SILENCE or rng.random() < _UNTOLD_ODDS else asking.one(LEVELS[1:], rng)
        every = (*SOUNDS, *OTHERS)
        pairs = listening.about_sound(heard, level, every, most, rng, sure=sure)
        caption = self.captions.whole([self.captions.sound(heard, sure=sure), self.captions.level(level)])
        if rng.random() < self.training.both_odds:
            seen, asked = self._seen(rng)
            # "It" is the picture's or the sound's: only questions that say which are asked of both.
            pairs = [pair for pair in pairs if _says_which(pair[0], _OF_SOUND)][: most // 2]
            pairs += [pair for pair in asked if _says_which(pair[0], _OF_PICTURE)][: most // 2]
            return self._row({SEEN: seen, HEARD: caption}, pairs, draw)
        if rng.random() < _UNTOLD_ODDS:
            pairs[-1] = asking.about_nothing(rng)
        if rng.random() < _ELSE_ODDS:
            pairs[0] = asking.about_something_else(rng)
        return self._row({HEARD: caption}, pairs, draw)

    def _row(self, captions: Mapping[str, list[int]], pairs: list[asking.Pair], draw: Draw) -> Row:
        slots = {}
        for slot, caption in captions.items():
            embedded = self.link.embed(torch.tensor(caption))
            size = self.training.noise * draw.rng.random() * self._power
            slots[slot] = embedded + size * torch.randn(embedded.shape, generator=draw.generator)
        row = Row.about(slots, self.link.special)
        for question, answer in pairs:
            row.ask(tk.encode(self.link.tokenizer, question), tk.encode(self.link.tokenizer, answer))
        return row


def _says_which(question: str, words: frozenset[str]) -> bool:
    return not words.isdisjoint(question.lower().strip("?.").split())
