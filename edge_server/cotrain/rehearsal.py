"""Rehearsal: clips of what the model was taught before, learned again in every step, so that it stays known.

    old clips ─▶ frozen encoders, once, on disk ─▶ the model's own heads ─▶ channels as in training ─▶ batch

Devices bring what is new, each from a world of its own; whoever took no part still lives in the old one, and
so does a device whose lamp is repaired. One more batch of each step, made at the edge; no head learns of it,
nobody is judged by it. Source: Robins 1995, "Catastrophic forgetting, rehearsal and pseudorehearsal".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from device_agent.cotrain.examples import Asked
from edge_server.cotrain.batches import DeviceBatch, SlotTokens
from edge_server.cotrain.plan import Plan
from edge_server.data.questions_file import OwnMedia, has_questions, load_questions
from edge_server.data.soundstage.dataset import Split, load_split
from edge_server.model import tokenizer as tk
from edge_server.model.head import TransmitterHead
from edge_server.model.head_gradient import can_learn_on_a_device
from edge_server.model.link import Link
from edge_server.model.selection import MatrixSelection
from edge_server.training.clips import EncodedClips, encode_clips
from edge_server.training.forward import draw_of
from edge_server.training.own_data import OwnSplit
from edge_server.training.radio import RadioTraining, transmit
from edge_server.training.recorded import media_spec
from edge_server.training.soundstage import SoundstageSplit
from edge_server.training.split import TrainingSplit
from protos.tokenlink.v1 import cotrain_pb2 as cpb

MOST_CLIPS = 1000
"""Of a generated data set: encoding more takes longer than it helps."""
_USUAL_CLIPS = 400
"""From so many it is known what is usual."""
_RADIO = RadioTraining(snr_db=(-5.0, 20.0))
"""As in training, but for what is nearly nothing but noise."""
_STAGE = 21
"""Tells its draws from those of other stages."""


class Rehearsal:
    """Old clips, drawn anew each step.

    Args:
        link: whose heads send; they do not learn.
        clips: behind the frozen encoders.
        plan: says how many, and about how much of each is asked.
        told: what a report says of where they come from.
    """

    def __init__(
        self, link: Link, clips: EncodedClips[TrainingSplit], plan: Plan, told: Mapping[str, Any]
    ) -> None:
        self._link, self._clips, self._plan = link, clips, plan
        self.told = {**told, "clips": len(clips)}
        self._has = {
            slot: np.array([clips.split.has(row, slot) for row in range(len(clips))]) for slot in link.slots
        }

    @classmethod
    def of(cls, link: Link, data: Path, cache: Path, plan: Plan) -> Rehearsal:
        """The ``train`` split of a Soundstage data set, or of a folder of one's own clips and questions.

        Args:
            link: whose encoders.
            data: the folder.
            cache: folder for features.
            plan: of the round.

        Raises:
            DatasetError: it is neither, or cannot be read.
        """
        split: TrainingSplit
        if has_questions(data):
            loaded = load_questions(OwnMedia(data, media_spec(link)), "train")
            split = OwnSplit(loaded.media, loaded.clips, 1, loaded.questions)
        else:
            split = SoundstageSplit(some_clips(load_split(data, "train"), 0, MOST_CLIPS))
        return cls(link, encode_clips(link, split, cache, "clips to rehearse"), plan, {"data": data.name})

    @torch.no_grad()
    def usual(self) -> dict[str, cpb.UsualFeatures]:
        """By slot, what its head gets of these clips: for devices to begin by."""
        found = {}
        for slot in self._link.slots:
            rows = np.flatnonzero(self._has[slot])
            head = self._link.heads[slot]
            if not len(rows) or not can_learn_on_a_device(head):
                continue
            assert isinstance(head, TransmitterHead)  # noqa: S101 - narrows the type
            assert isinstance(head.pooling, MatrixSelection)  # noqa: S101 - likewise
            length = max(self._plan.token_lengths)
            selection_TP = head.pooling.matrix(length)
            pooled_BTD = selection_TP @ self._clips.take(slot, rows[:_USUAL_CLIPS]).to(selection_TP)
            seen_ND = F.layer_norm(pooled_BTD, (head.hidden_size,), eps=head.norm.eps).flatten(0, 1)
            found[slot] = cpb.UsualFeatures(
                selection=selection_TP.numpy().astype("<f4").tobytes(),
                token_length=length,
                mean=seen_ND.mean(0).tolist(),
                deviation=seen_ND.std(0, correction=0).tolist(),
            )
        return found

    @torch.no_grad()
    def batch(self, step: int) -> DeviceBatch:
        """What is rehearsed in a step; follows from the plan's seed and the step."""
        plan, draw = self._plan, draw_of(self._plan.seed, _STAGE, step)
        rows = draw.rng.permutation(len(self._clips))[: plan.rehearse_clips]
        model, fading, snr_db_B = _RADIO.draw(len(rows), draw.generator)
        slots = {}
        for slot in self._link.slots:
            length = int(draw.rng.choice(plan.token_lengths))
            places = np.flatnonzero(self._has[slot][rows])
            if not len(places):
                continue
            sent = self._link.send(slot, self._clips.take(slot, rows[places]), length)
            x_BTC, told_db_B = transmit(sent, model, fading, snr_db_B[places], draw.generator)
            told_db_BT = told_db_B[:, None].expand(-1, length).numpy()
            slots[slot] = SlotTokens(tuple(map(int, places)), x_BTC.numpy(), told_db_BT)
        return DeviceBatch(slots, [self._asked(int(row), draw.rng) for row in rows], 0)

    def _asked(self, row: int, rng: np.random.Generator) -> tuple[Asked, ...]:
        tokenizer = self._link.tokenizer
        drawn = self._clips.split.questions(row, self._plan.rehearse_questions, rng)
        return tuple(
            Asked(tuple(tk.encode(tokenizer, question)), tuple(tk.encode(tokenizer, answer)))
            for question, answer in drawn
        )


def some_clips(split: Split, begin: int, end: int) -> Split:
    """Clips ``begin`` to ``end - 1`` of a generated split; their own questions are left out."""
    return replace(
        split,
        frames=split.frames[begin:end],
        pcm=split.pcm[begin:end],
        scenes=split.scenes[begin:end],
        captions=split.captions[begin:end],
        questions=(),
    )
