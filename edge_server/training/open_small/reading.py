"""Reading: the foundation's LoRA learns to answer from captions in the slot, before any picture is seen.

A caption stands there as the receiver will say it, with noise of all sizes on its embeddings. A part of each
step are plain questions with the foundation's own answers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from edge_server.data.soundstage.scene import sample_scene
from edge_server.model import tokenizer as tk
from edge_server.model.link import Link
from edge_server.training.forward import Draw, draw_of
from edge_server.training.loop import Schedule
from edge_server.training.open_small import asking
from edge_server.training.teacher_forcing import Row, answer_loss
from edge_server.weights.captions import Captions
from edge_server.weights.names import ClassName
from edge_server.weights.open_small import QUERIES

_UNSURE_ODDS = 0.12
_NO_PICTURE_ODDS = 0.3


@dataclass(frozen=True)
class ReadingTraining:
    """How reading runs."""

    schedule: Schedule
    """Steps and learning rate."""
    photos: int = 2
    """Captions of photos a step."""
    drawing_odds: float = 0.2
    """How often one of these is of a drawing."""
    stages: int = 1
    """Captions of stages a step."""
    questions: int = 6
    """Questions about one caption, at most."""
    plain: int = 3
    """Plain questions a step."""
    noise: float = 0.7
    """Most noise on an embedding, relative to the mean square of all."""


class Reading:
    """Reading as the loop runs it."""

    _STAGE = 12

    def __init__(
        self,
        link: Link,
        names: tuple[ClassName, ...],
        drawings: list[str],
        plain: list[tuple[str, list[int]]],
        training: ReadingTraining,
        seed: int,
    ) -> None:
        self.link = link.requires_grad_(False)
        link.add_lora()
        for parameter in self.trainable().values():
            parameter.requires_grad_(True)
        self.names = names
        self.drawings = drawings
        self.plain = plain
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
        rows += [self._stage(draw) for _ in range(training.stages)]
        rows.append(self.plain_row(draw.rng))
        loss, right = answer_loss(self.link, rows)
        return loss, {"answers": right}

    def _photo(self, draw: Draw) -> Row:
        rng, training = draw.rng, self.training
        if rng.random() < training.drawing_odds:
            name = self.drawings[int(rng.integers(len(self.drawings)))]
            pairs = asking.about_drawing(name, self.drawings, training.questions, rng)
            return self._row(self.captions.drawing(name), pairs, draw)
        shown = self.names[int(rng.integers(len(self.names)))]
        sure = rng.random() >= _UNSURE_ODDS
        pairs = asking.about_class(shown, self.names, training.questions, rng, sure=sure)
        return self._row(self.captions.photo(shown, sure=sure), pairs, draw)

    def _stage(self, draw: Draw) -> Row:
        scene = sample_scene(draw.rng)
        pairs = asking.about_stage(scene, self.training.questions, draw.rng)
        return self._row(self.captions.stage(scene), pairs, draw)

    def plain_row(self, rng: np.random.Generator) -> Row:
        """Plain questions with the foundation's own answers."""
        row = Row.about({}, self.link.special)
        for i in rng.choice(len(self.plain), self.training.plain, replace=False):
            question, ids = self.plain[int(i)]
            ended = ids[-1] == self.link.special.eos
            row.ask(tk.encode(self.link.tokenizer, question), ids[:-1] if ended else ids, ends=ended)
        if rng.random() < _NO_PICTURE_ODDS:
            question, answer = asking.about_nothing(rng)
            row.ask(tk.encode(self.link.tokenizer, question), tk.encode(self.link.tokenizer, answer))
        return row

    def _row(self, caption: list[int], pairs: list[asking.Pair], draw: Draw) -> Row:
        embedded = self.link.embed(torch.tensor(caption))
        size = self.training.noise * draw.rng.random() * self._power
        embedded = embedded + size * torch.randn(embedded.shape, generator=draw.generator)
        row = Row.about({"visual": embedded}, self.link.special)
        for question, answer in pairs:
            row.ask(tk.encode(self.link.tokenizer, question), tk.encode(self.link.tokenizer, answer))
        return row
