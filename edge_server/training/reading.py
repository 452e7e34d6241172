"""Reading free captions: the foundation learns on text alone what published ones know from theirs.

The foundation that is trained here knows the benchmark's own form of captions only. Before it can read for
others what people write (:mod:`edge_server.training.notes`, :mod:`edge_server.training.distillation`) it
reads scenes in free wording, answers questions about them, and writes down what is seen and heard, word by
word, in the order of picture and sound. No clip takes part. Where a caption leaves a fact out, the answer is
to be guessed all the same, so that the foundation's confidence says what a caption settles.

Every system of a study that compares alignments starts from the same foundation, those without captions too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from edge_server.data.soundstage.free_captions import free_caption
from edge_server.data.soundstage.questions import draw_questions
from edge_server.data.soundstage.scene import Scene, sample_scene
from edge_server.model import tokenizer as tk
from edge_server.model.link import Link
from edge_server.training.loop import Schedule
from edge_server.training.modality import TRAINING
from edge_server.training.teacher_forcing import Row, answer_loss

#: Asks for what a caption says, in a fixed number of words: slot after slot, place after place.
NOTE_REQUEST = "Write down what is seen and heard."


@dataclass(frozen=True)
class ReadingTraining:
    """How the stage runs."""

    schedule: Schedule
    """Steps and learning rate."""
    batch_size: int = 16
    """Scenes a step."""
    questions: int = 6
    """Questions about one scene, at most."""
    slots_odds: float = 0.3
    """How often a scene is read in the slots, in the benchmark's form, as before: nothing is forgotten."""


class Reading:
    """The stage as the loop runs it.

    Args:
        link: its foundation learns; it has no LoRA yet.
        training: how.
        seed: everything random follows from it.
    """

    _STAGE = 21

    def __init__(self, link: Link, training: ReadingTraining, seed: int) -> None:
        self.link = link.requires_grad_(False)
        link.foundation.requires_grad_(True)
        self.training = training
        self.seed = seed

    def trainable(self) -> dict[str, nn.Parameter]:
        """All of the foundation."""
        return dict(self.link.foundation.named_parameters())

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of answers and notes."""
        rng = np.random.default_rng([self.seed, self._STAGE, step])
        rows = [self._row(sample_scene(rng), rng) for _ in range(self.training.batch_size)]
        rows.sort(key=lambda row: len(row.labels))
        half = len(rows) // 2
        parts = [answer_loss(self.link, part) for part in (rows[:half], rows[half:]) if part]
        return torch.stack([loss for loss, _ in parts]).mean(), {
            "right": sum(right for _, right in parts) / len(parts)
        }

    def _row(self, scene: Scene, rng: np.random.Generator) -> Row:
        encode = self._encode
        in_slots = rng.random() < self.training.slots_odds
        if in_slots:
            row = Row.about(
                {slot: encode(each.describe(scene, rng)) for slot, each in TRAINING.items()},
                self.link.special,
            )
        else:
            row = Row.about({}, self.link.special, encode(free_caption(scene, rng)))
        for question in draw_questions(scene, self.training.questions, rng):
            row.ask(encode(question.text), encode(question.answer))
        if not in_slots:
            row.ask(encode(NOTE_REQUEST), encode(" ".join(note(scene))))
        return row

    def _encode(self, text: str) -> list[int]:
        return tk.encode(self.link.tokenizer, text)


def note(scene: Scene) -> Sequence[str]:
    """What is to be written down of a scene: what dictation would say in each slot, one after the other."""
    return [word for each in TRAINING.values() for word in each.dictated(scene)]


def places() -> dict[str, int]:
    """How many words a note has for each slot: as many for every scene."""
    scene = sample_scene(np.random.default_rng(0))
    return {slot: len(each.dictated(scene)) for slot, each in TRAINING.items()}
