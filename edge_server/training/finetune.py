"""Stage 2, task fine-tuning: questions answered through the noisy channel.

LoRA of the foundation, heads and receivers learn together; encoders and the foundation's own weights are
frozen. A row is one clip with several questions that do not see one another; some come over the analog text
path, and now and then a modality is missing.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from edge_server.model import tokenizer as tk
from edge_server.model.link import Link
from edge_server.model.prompt import Piece
from edge_server.training.clips import EncodedClips
from edge_server.training.forward import Draw, UplinkTraining, draw_of, receive_clips, receive_text
from edge_server.training.loop import Schedule
from edge_server.training.pretrain_foundation import DESCRIBE_QUESTION
from edge_server.training.split import TrainingSplit
from edge_server.training.teacher_forcing import Row, answer_loss


@dataclass(frozen=True)
class FinetuneTraining:
    """How stage 2 runs."""

    schedule: Schedule
    """Steps and learning rate; the paper's rounds."""
    uplink: UplinkTraining
    """Channels and token lengths."""
    batch_size: int = 24
    """Clips a step."""
    questions: int = 12
    """Questions about one clip, at most."""
    analog_odds: float = 0.1
    """How often a question comes over the analog text path."""
    missing_odds: float = 0.04
    """How often a clip lacks its picture, and how often its sound."""
    describe_odds: float = 0.1
    """How often a clip is also to be described."""


class Finetune:
    """Stage 2 as the loop runs it."""

    _STAGE = 6

    def __init__(
        self, link: Link, clips: EncodedClips[TrainingSplit], training: FinetuneTraining, seed: int
    ) -> None:
        self.link = link.requires_grad_(False)
        if not link.has_lora:
            link.add_lora()
        for parameter in self.trainable().values():
            parameter.requires_grad_(True)
        self.clips = clips
        self.training = training
        self.seed = seed

    def trainable(self) -> dict[str, nn.Parameter]:
        """LoRA matrices, heads and receivers."""
        return self.link.lora_parameters() | self.link.link_parameters()

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of the answers."""
        draw = draw_of(self.seed, self._STAGE, step)
        picked = draw.rng.integers(0, len(self.clips), self.training.batch_size)
        received = receive_clips(self.link, self.clips, picked, self.training.uplink, draw)
        rows = [
            self._row(int(clip), {slot: embeddings[i] for slot, embeddings in received.items()}, draw)
            for i, clip in enumerate(picked)
        ]
        loss, right = answer_loss(self.link, rows)
        return loss, {"answers": right}

    def _row(self, clip: int, slots: dict[str, Tensor], draw: Draw) -> Row:
        split, rng = self.clips.split, draw.rng
        pairs = split.questions(clip, self.training.questions, rng)
        if rng.random() < self.training.describe_odds:
            pairs.append((DESCRIBE_QUESTION, split.description(clip, rng)))
        kept: dict[str, Piece] = {slot: piece for slot, piece in slots.items() if split.has(clip, slot)}
        missing = rng.random()
        for index, slot in enumerate(slots, 1):
            if missing < index * self.training.missing_odds:
                if len(kept) > 1:  # of what is there, something stays
                    kept.pop(slot, None)
                break
        row = Row.about(kept, self.link.special)
        for question, answer in pairs:
            ids: Piece = tk.encode(self.link.tokenizer, question)
            if rng.random() < self.training.analog_odds:
                ids = receive_text(self.link, list(ids), self.training.uplink, draw)
            row.ask(ids, tk.encode(self.link.tokenizer, answer))
        return row
