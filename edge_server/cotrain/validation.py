"""A model on the validation set that it was shipped with, whatever the heads: scored by teacher forcing.

A question counts as right where all of its answer is the likeliest. Features of the clips are encoded once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from device_agent.channel import Channel, ChannelConfig
from device_agent.cotrain.examples import Asked
from edge_server.cotrain.batches import DeviceBatch, SlotTokens
from edge_server.cotrain.model_half import Examined, ModelHalf
from edge_server.data.annotations import questions_by_clip
from edge_server.data.soundstage.dataset import Split, load_split
from edge_server.model import tokenizer as tk
from edge_server.model.head_gradient import WEIGHTS
from edge_server.model.link import Link
from edge_server.training.clips import EncodedClips, encode_clips
from edge_server.training.soundstage import SoundstageSplit

Array = npt.NDArray[np.float32]
_BATCH = 32
_MAX_ASKED = 8


class ValidationSet:
    """Clips behind frozen encoders, with questions.

    Args:
        link: whose encoders.
        split: of Soundstage.
        cache: folder for features.
        token_length: tokens of a block.
        channel: what lies between.
        clips: the first so many.
    """

    def __init__(
        self,
        link: Link,
        split: Split,
        cache: Path,
        token_length: int = 16,
        channel: ChannelConfig | None = None,
        clips: int | None = None,
    ) -> None:
        self._link, self._token_length = link, token_length
        self._channel = channel or ChannelConfig(model="awgn", snr_db=10.0)
        self._clips: EncodedClips[SoundstageSplit] = encode_clips(
            link, SoundstageSplit(split), cache, "validation clips"
        )
        count = min(len(self._clips), clips or len(self._clips))
        self._asked = [
            tuple(
                Asked(
                    tuple(tk.encode(link.tokenizer, question.text)),
                    tuple(tk.encode(link.tokenizer, question.answer)),
                )
                for question in of_clip[:_MAX_ASKED]
            )
            for of_clip in questions_by_clip(split.questions, count)
        ]

    @classmethod
    def of(cls, link: Link, data: Path, cache: Path) -> ValidationSet:
        """The ``val`` split of a Soundstage data set.

        Raises:
            DatasetError: there is none.
        """
        return cls(link, load_split(data, "val"), cache)

    def score(
        self, half: ModelHalf, heads: Mapping[str, Mapping[str, Array]], *, before: bool = False
    ) -> Examined:
        """Ask every question.

        Args:
            half: the edge's half.
            heads: weights by transmitter; those that are not there are the model's own.
            before: the edge's half as it was before the round.
        """
        right = questions = 0
        for begin in range(0, len(self._asked), _BATCH):
            rows = np.arange(begin, min(begin + _BATCH, len(self._asked)))
            rows = np.array([row for row in rows if self._asked[row]], np.int64)
            if not len(rows):
                continue
            found = half.examine(self._batch(rows, heads), before=before)
            right, questions = right + found.right, questions + found.questions
        return Examined(right, questions)

    @torch.inference_mode()
    def _batch(self, rows: npt.NDArray[np.int64], heads: Mapping[str, Mapping[str, Array]]) -> DeviceBatch:
        slots = {}
        channels = [Channel(self._channel, np.random.default_rng([1, int(row)])) for row in rows]
        for slot in self._link.slots:
            head = self._link.heads[slot]
            features = self._clips.take(slot, rows)
            given = {name: torch.from_numpy(heads[slot][name]) for name in WEIGHTS} if slot in heads else {}
            sent = torch.func.functional_call(head, given, (features, self._token_length)).numpy()
            arrived = [channel.transmit(x_TC) for channel, x_TC in zip(channels, sent, strict=True)]
            slots[slot] = SlotTokens(
                tuple(range(len(rows))),
                np.stack([each.x_TC for each in arrived]),
                np.stack([each.told_db() for each in arrived]),
            )
        return DeviceBatch(slots, [self._asked[row] for row in rows], 0)
