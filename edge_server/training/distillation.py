"""Distillation: received tokens are to be answered as their caption is, by the same frozen foundation.

The foundation is asked about a caption, which it reads as text; what it would say, word by word of its
vocabulary, is what it is to say of the received tokens (Hinton et al. 2015; teacher and student are one
network that reads two things). Questions come without answers and have nothing to do with the clip they are
asked of. Where the caption does not settle one, the foundation's doubt makes it weigh less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edge_server.data.soundstage.questions import draw_questions
from edge_server.data.soundstage.scene import sample_scene
from edge_server.model import tokenizer as tk
from edge_server.model.link import Link
from edge_server.training.forward import Draw
from edge_server.training.teacher_forcing import Row, answer_logits


@dataclass(frozen=True)
class DistillationTraining:
    """How much is asked."""

    clips: int = 8
    """Clips of a step that are asked about; each costs two passes of the foundation."""
    questions: int = 12
    """Questions about each."""


class Distillation:
    """Implements :class:`edge_server.training.caption_loss.CaptionLoss`.

    Args:
        link: its foundation is teacher and student.
        questions: texts to ask, none about any clip in particular.
        training: how much is asked.
    """

    def __init__(self, link: Link, questions: Sequence[str], training: DistillationTraining) -> None:
        self.link = link
        self.bank = [tk.encode(link.tokenizer, text) for text in questions]
        self.training = training

    def __call__(
        self, received: Mapping[str, Tensor], captions: Sequence[str], draw: Draw
    ) -> tuple[Tensor, dict[str, float]]:
        """Mean divergence (Kullback-Leibler) of first answer tokens, weighed by certainty."""
        students, teachers = [], []
        for clip, caption in enumerate(captions[: self.training.clips]):
            about = {slot: embeddings[clip] for slot, embeddings in received.items()}
            student = Row.about(about, self.link.special)
            teacher = Row.about({}, self.link.special, tk.encode(self.link.tokenizer, caption))
            for i in draw.rng.choice(len(self.bank), self.training.questions, replace=False):
                for row in (student, teacher):
                    row.ask(self.bank[int(i)], ())
            students.append(student)
            teachers.append(teacher)
        with torch.no_grad():
            told_KV = answer_logits(self.link, teachers).logits_KV.softmax(-1)
        said_KV = answer_logits(self.link, students).logits_KV.log_softmax(-1)
        sure_K = told_KV.amax(-1)
        apart_K = F.kl_div(said_KV, told_KV, reduction="none").sum(-1)
        agreed = (said_KV.argmax(-1) == told_KV.argmax(-1)).float().mean().item()
        loss = (sure_K * apart_K).sum() / sure_K.sum()
        return loss, {"apart": loss.item(), "agreed": agreed}


def question_bank(scenes: int, seed: int) -> list[str]:
    """Texts of questions that somebody might ask in this world, each once, sorted; no answers."""
    rng = np.random.default_rng([seed, 22])
    return sorted({q.text for _ in range(scenes) for q in draw_questions(sample_scene(rng), 8, rng)})
