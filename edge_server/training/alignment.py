"""Stage 1, alignment: received tokens are brought near the words for what they show, over the noisy channel.

Heads and receivers learn; encoders and foundation are frozen. The losses:

- *contrastive*: InfoNCE between the received image tokens and the received words for what can be seen, and
  between the received audio tokens and the received words for what can be heard (the paper's);
- *reconstruction*: the analog text path gives back the embeddings that were sent (the paper's);
- *dictation*: what fills each slot of the prompt is to be the embedding of a certain word for what is seen or
  heard ("left a moving violin ..."). The contrastive loss says which scene it is; dictation says which
  instrument is where, in the foundation's own words, so that it can read them from the start;
- *captioning*: the frozen foundation reads the received tokens and writes the caption.

Dictation takes its words from wherever the split has them: labels of a generated scene, or notes that the
foundation takes of a free caption (:mod:`edge_server.training.notes`). Further losses of captions stand in
modules of their own (:mod:`edge_server.training.caption_loss`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edge_server.model import tokenizer as tk
from edge_server.model.link import Link
from edge_server.training.caption_loss import CaptionLoss
from edge_server.training.clips import EncodedClips
from edge_server.training.forward import UplinkTraining, draw_of, receive_clips, receive_texts
from edge_server.training.loop import Schedule
from edge_server.training.losses import IGNORE, UNKNOWN, dictation, info_nce
from edge_server.training.modality import TRAINING
from edge_server.training.pretrain_foundation import DESCRIBE_QUESTION
from edge_server.training.split import TrainingSplit
from edge_server.training.teacher_forcing import Row, answer_loss


@dataclass(frozen=True)
class AlignmentTraining:
    """How stage 1 runs."""

    schedule: Schedule
    """Steps and learning rate."""
    uplink: UplinkTraining
    """Channels and token lengths."""
    batch_size: int = 32
    """Clips a step; the contrastive loss tells each from the others."""
    temperature: float = 0.07
    """Contrastive tau."""
    contrastive_weight: float = 0.3
    """Weight of InfoNCE."""
    reconstruction_weight: float = 0.3
    """Weight of the text path's reconstruction."""
    dictation_weight: float = 1.0
    """Weight of dictation."""
    caption_weight: float = 0.0
    """Weight of captioning. Without it and without dictation, this is the paper's stage 1."""
    caption_clips: int | None = None
    """Clips of a step that are captioned, which costs more than all the rest; None for all."""


class Alignment:
    """Stage 1 as the loop runs it.

    Args:
        link: heads and receivers learn.
        clips: with their captions.
        training: how.
        seed: everything random follows from it.
        beside: a loss of captions that counts beside the others, with weight 1.
    """

    _STAGE = 5

    def __init__(
        self,
        link: Link,
        clips: EncodedClips[TrainingSplit],
        training: AlignmentTraining,
        seed: int,
        beside: CaptionLoss | None = None,
    ) -> None:
        self.link = link.requires_grad_(False)
        for parameter in link.link_parameters().values():
            parameter.requires_grad_(True)
        self.clips = clips
        self.training = training
        self.seed = seed
        self.beside = beside
        self._ids: dict[str, int] = {UNKNOWN: IGNORE}

    def trainable(self) -> dict[str, nn.Parameter]:
        """Heads and receivers, the text path's included."""
        return self.link.link_parameters()

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Weighted sum of the losses."""
        training = self.training
        draw = draw_of(self.seed, self._STAGE, step)
        rows = draw.rng.integers(0, len(self.clips), training.batch_size)
        received = receive_clips(self.link, self.clips, rows, training.uplink, draw)
        captions = [self.clips.split.caption(int(row)) for row in rows]
        contrastive = torch.zeros((), device=self.link.device)
        reconstruction = torch.zeros((), device=self.link.device)
        share = 1.0 / len(received)
        reads = training.contrastive_weight or training.reconstruction_weight
        for slot in received if reads else ():
            said = TRAINING[slot].caption
            ids = [tk.encode(self.link.tokenizer, said(caption)) for caption in captions]
            words = receive_texts(self.link, ids, training.uplink, draw)
            contrastive = contrastive + share * info_nce(
                received[slot].mean(dim=1), words.means(), training.temperature
            )
            reconstruction = reconstruction + share * words.errors().mean()
        loss = training.contrastive_weight * contrastive + training.reconstruction_weight * reconstruction
        figures = {"contrastive": contrastive.item(), "reconstruction": reconstruction.item()}
        if training.dictation_weight:
            dictated, right = self._dictation_loss(received, [int(row) for row in rows])
            loss = loss + training.dictation_weight * dictated
            figures |= {"dictation": dictated.item(), "dictated": right}
        if training.caption_weight:
            few = captions[: training.caption_clips]
            caption, right = self._caption_loss(received, [c.full for c in few])
            loss = loss + training.caption_weight * caption
            figures |= {"caption": caption.item(), "words": right}
        if self.beside is not None:
            further, told = self.beside(received, [c.full for c in captions], draw)
            loss, figures = loss + further, figures | told
        return loss, figures

    def _dictation_loss(self, received: dict[str, Tensor], clips: Sequence[int]) -> tuple[Tensor, float]:
        """Dictation of all slots; share of words that are said."""
        losses, said = [], []
        for slot in received:
            words = [self.clips.split.dictated(clip, slot) for clip in clips]
            targets_BS = torch.tensor([self._word_ids(of_clip) for of_clip in words], device=self.link.device)
            # A receiver of fewer slots takes the first words; further slots say what they like.
            slots = min(received[slot].shape[1], targets_BS.shape[1])
            loss, right = dictation(
                received[slot][:, :slots], targets_BS[:, :slots], self.link.embedding.weight
            )
            losses.append(loss)
            said.append(right)
        return torch.stack(losses).mean(), sum(said) / len(said)

    def _word_ids(self, words: Sequence[str]) -> list[int]:
        """The language token of each word; IGNORE for :data:`UNKNOWN`.

        Raises:
            ValueError: the tokenizer cuts a word in pieces.
        """
        for word in words:
            if word not in self._ids:
                ids = tk.encode(self.link.tokenizer, word)
                if len(ids) != 1:
                    raise ValueError(
                        f"tokenizer: {word!r} is {len(ids)} language tokens; dictation needs one"
                    )
                self._ids[word] = ids[0]
        return [self._ids[word] for word in words]

    def _caption_loss(self, received: dict[str, Tensor], captions: list[str]) -> tuple[Tensor, float]:
        question = tk.encode(self.link.tokenizer, DESCRIBE_QUESTION)
        rows = []
        for i, caption in enumerate(captions):  # of the first clips received
            row = Row.about({slot: embeddings[i] for slot, embeddings in received.items()}, self.link.special)
            row.ask(question, tk.encode(self.link.tokenizer, caption))
            rows.append(row)
        return answer_loss(self.link, rows)
