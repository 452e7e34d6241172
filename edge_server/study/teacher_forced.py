"""Teacher-forced answers: all questions of a split at once, for sweeps over many settings.

A clip is sent once and asked all its questions, packed into one row of one forward pass
(:mod:`edge_server.training.packing`). A question counts as right where the foundation would say exactly the
true answer and then end: every language token of it, the end included, is the likeliest after those before
it. That is what greedy decoding by the served model gives, at a fraction of its cost.

Clip i of a split always meets the same channel realisation for a seed, whichever system sends it, as long as
their codewords are of one size: systems are compared in pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from device_agent.channel import Channel, Reception
from edge_server.data.annotations import QuestionRow, questions_by_clip
from edge_server.data.soundstage.dataset import Split
from edge_server.evaluation.accuracy import Score, Setting
from edge_server.model import tokenizer as tk
from edge_server.model.link import Link
from edge_server.model.modality import MODALITIES, SLOTS
from edge_server.runtime.refinement import Refinement
from edge_server.training.teacher_forcing import Row, answer_logits
from protos.names import clamp_snr_db

Receive = Callable[[range], Sequence[Mapping[str, Tensor]]]
"""Embeddings that arrived for some clips: per clip, what fills which slot, [slots, E]; a slot that is not
there was lost."""


class TeacherForcedQuestions:
    """The questions of a split, clip by clip.

    Args:
        split: clips and questions.
        clips: only the first so many; None for all.
        batch_size: clips in one forward pass.
    """

    def __init__(self, split: Split, clips: int | None = None, batch_size: int = 32) -> None:
        self.clips = len(split.scenes) if clips is None else min(clips, len(split.scenes))
        self.batch_size = batch_size
        self._questions = questions_by_clip(split.questions, self.clips)

    def score(self, link: Link, receive: Receive) -> Score:
        """Ask a link about what arrived."""
        score = Score()
        for begin in range(0, self.clips, self.batch_size):
            clips = range(begin, min(begin + self.batch_size, self.clips))
            for clip, right in zip(clips, self.right(link, clips, receive(clips)), strict=True):
                for question, one in zip(self.of_clip(clip), right, strict=True):
                    score.count(question, one)
        return score

    def of_clip(self, clip: int) -> Sequence[QuestionRow]:
        """What is asked about a clip."""
        return self._questions[clip]

    @torch.inference_mode()
    def right(
        self, link: Link, clips: Sequence[int], arrived: Sequence[Mapping[str, Tensor]]
    ) -> list[list[bool]]:
        """Ask about some clips in one forward pass: of each, which questions were answered rightly.

        Args:
            link: is asked.
            clips: any of the split.
            arrived: of each, what fills which slot, [slots, E]; a slot that is not there was lost.
        """
        rows = []
        for clip, slots in zip(clips, arrived, strict=True):
            row = Row.about({slot: slots[slot] for slot in SLOTS if slot in slots})
            for question in self._questions[clip]:
                row.ask(tk.encode(link.tokenizer, question.text), tk.encode(link.tokenizer, question.answer))
            rows.append(row)
        answers = answer_logits(link, rows)
        wrong = answers.logits_KV.argmax(-1) != answers.targets_K
        failed = {
            (int(row), int(block))
            for row, block in zip(answers.rows_K[wrong], answers.blocks_K[wrong], strict=True)
        }
        return [
            [(row, block) not in failed for block in range(1, len(self._questions[clip]) + 1)]
            for row, clip in enumerate(clips)
        ]


Block: TypeAlias = npt.NDArray[np.float32]
"""One or many token blocks, float32, [T, C] or [N, T, C]."""

Carry = Callable[[str, Block], Block]
"""What becomes of a slot's received block [T, C] before the receiver gets it."""


def over_channel(
    link: Link,
    features: Mapping[str, npt.NDArray[np.float16]],
    setting: Setting,
    refine: Refinement | None = None,
) -> Receive:
    """What a link's receivers make of clips sent over a channel.

    Args:
        link: its heads send, its receivers receive.
        features: encoder tokens of every clip, per slot, [N, P, D].
        setting: channel, token length, seed.
        refine: of gains that are estimated; None: they stay as they are.
    """

    @torch.inference_mode()
    def receive(clips: range) -> list[dict[str, Tensor]]:
        sent = {}
        for slot in SLOTS:
            taken = torch.from_numpy(features[slot][clips.start : clips.stop].astype(np.float32))
            sent[slot] = link.send(slot, taken, setting.token_length).numpy()
        return receive_blocks(link, sent, clips, setting, refine=refine)

    return receive


@torch.inference_mode()
def receive_blocks(
    link: Link,
    sent: Mapping[str, Block],
    clips: range,
    setting: Setting,
    carry: Carry = lambda slot, x_TC: x_TC,
    refine: Refinement | None = None,
) -> list[dict[str, Tensor]]:
    """What a link's receivers make of token blocks sent over a channel, clip by clip.

    Args:
        link: its receivers receive.
        sent: blocks as heads give them, per slot, [len(clips), T, C].
        clips: which clips these are: their numbers decide what the channel does.
        setting: channel and seed.
        carry: what lies between the channel and the receiver, the payload's codec for instance.
        refine: as for :func:`over_channel`.
    """
    channels = [Channel(setting.channel, np.random.default_rng([setting.seed, clip])) for clip in clips]
    arrived: list[dict[str, Tensor]] = [{} for _ in clips]
    for slot in SLOTS:
        receptions = [channel.transmit(x_TC) for channel, x_TC in zip(channels, sent[slot], strict=True)]
        if refine is not None:
            receptions = [_refined(refine, slot, reception) for reception in receptions]
        x_BTC = torch.from_numpy(np.stack([carry(slot, reception.x_TC) for reception in receptions]))
        told_db_BT = torch.from_numpy(np.stack([reception.told_db() for reception in receptions]))
        for slots, embeddings in zip(arrived, link.receiver(slot)(x_BTC, told_db_BT), strict=True):
            slots[slot] = embeddings
    return arrived


def _refined(refine: Refinement, slot: str, reception: Reception) -> Reception:
    if not reception.pilots:
        return reception
    told_db = reception.effective_snr_db
    x_TC, snr_db = refine(MODALITIES[slot].of_clip, reception.x_TC, told_db, reception.pilots)
    return replace(reception, x_TC=x_TC, effective_snr_db=clamp_snr_db(snr_db))
