"""Rooms: questions about several devices' pictures and sounds, each through a channel of its own.

    clips ─▶ one device's questions, reworded (as it learned them) ─┐
    rooms ─▶ views ─▶ heads ─▶ a channel each ─▶ receivers ─▶ labels ─▶ foundation ─▶ answers

Foundation and receivers learn; encoders and heads stay, and with them the device bundle: devices need nothing
new, and what they shared before can still be read. Half of what is learned from are clips of one device, so
that nothing is lost. A question whose views are not all shown is answered as well as can be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edge_server.data.soundstage.room import (
    OTHER_WORDS,
    PICTURES,
    VIEWS,
    Room,
    ViewName,
    label_of,
    other_names,
    renamed,
)
from edge_server.data.soundstage.room_dataset import RoomSplit
from edge_server.data.soundstage.room_questions import TEMPLATES, Knowable, draw_room_questions
from edge_server.model import tokenizer as tk
from edge_server.model.foundation import View, tag_of
from edge_server.model.link import Link
from edge_server.scenes.words import AGOS
from edge_server.training.clips import EncodedClips, encode_media
from edge_server.training.forward import Draw, UplinkTraining, draw_of
from edge_server.training.loop import Schedule
from edge_server.training.radio import transmit
from edge_server.training.rewording import RewordedClips, RewordingTraining
from edge_server.training.soundstage import SoundstageSplit
from edge_server.training.teacher_forcing import Row, answer_loss

_ENCODED_AT_ONCE = 32
#: By how many views are shown, how often.
_SHOWN_ODDS = (0.1, 0.45, 0.1, 0.1, 0.25)


@dataclass(frozen=True)
class RoomTraining:
    """How rooms are learned."""

    schedule: Schedule
    """Steps and learning rate."""
    uplink: UplinkTraining
    """Channels and token lengths; every view has an SNR of its own."""
    clips: RewordingTraining
    """How clips of one device are asked about beside them."""
    batch_size: int = 8
    """Rooms a step."""
    questions: int = 14
    """Questions about one room, at most."""
    odds: Mapping[Knowable, float] = field(default_factory=lambda: {"both": 0.55, "one": 0.35, "guess": 0.1})
    """How often questions have all that they need, need one view, or lack one."""
    other_names_odds: float = 0.2
    """How often the devices of a room have other names."""


@dataclass(frozen=True)
class EncodedRooms:
    """Rooms behind the frozen encoders.

    Attributes:
        features: by view, float16, [N, P, D].
        rooms: what each is of.
    """

    features: Mapping[ViewName, npt.NDArray[np.float16]]
    rooms: Sequence[Room]

    def __len__(self) -> int:
        return len(self.rooms)


def slot_of(view: ViewName) -> str:
    """The slot that a view fills."""
    return "visual" if view in PICTURES else "audio"


def encode_view(link: Link, split: RoomSplit, view: ViewName) -> npt.NDArray[np.float16]:
    """A view of every room behind its encoder, [N, P, D]."""
    media = split.media(view)
    parts = [
        encode_media(link, slot_of(view), media[begin : begin + _ENCODED_AT_ONCE]).half().cpu().numpy()
        for begin in range(0, len(media), _ENCODED_AT_ONCE)
    ]
    return np.concatenate(parts)


class Rooms:
    """The stage as the loop runs it.

    Args:
        link: its LoRA is merged; it is told that it takes views.
        rooms: to ask about.
        clips: of one device, to ask about beside them.
        training: how.
        seed: everything random follows from it.
    """

    _STAGE = 21

    def __init__(
        self,
        link: Link,
        rooms: EncodedRooms,
        clips: EncodedClips[SoundstageSplit],
        training: RoomTraining,
        seed: int,
    ) -> None:
        self._alone = RewordedClips(link, clips, training.clips, seed, self._STAGE + 1)
        self.link = link.requires_grad_(False)
        for parameter in self.trainable().values():
            parameter.requires_grad_(True)
        self.rooms = rooms
        self.training = training
        self.seed = seed
        # Of two views, mostly those that some question needs.
        self._pairs = sorted(
            {asked.needs for room in rooms.rooms[:64] for t in TEMPLATES for asked in t.find(room, AGOS[0])}
        )

    def trainable(self) -> dict[str, nn.Parameter]:
        """Foundation, receivers, and the receiver of the text path."""
        link = self.link
        parts: dict[str, nn.Module] = {"foundation": link.foundation, "receivers": link.receivers}
        if link.config.analog_text:
            parts["text_receiver"] = link.text_receiver
        return {
            f"{part}.{name}": p for part, module in parts.items() for name, p in module.named_parameters()
        }

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of the answers: about one device, and about several, alike important."""
        alone, right_alone = self._alone.loss(step)
        draw = draw_of(self.seed, self._STAGE, step)
        picked = draw.rng.integers(0, len(self.rooms), self.training.batch_size)
        shown = [self._shown(draw.rng) for _ in picked]
        received = self._receive(picked, shown, draw)
        rows = [
            self._row(self.rooms.rooms[int(room)], views, draw.rng)
            for room, views in zip(picked, received, strict=True)
        ]
        several, right = answer_loss(self.link, rows)
        figures = {"clips": right_alone["answers"], "rooms": right, "rooms_loss": several.item()}
        return alone + several, figures

    def _shown(self, rng: np.random.Generator) -> list[ViewName]:
        """Which views of a room are there, in the order in which they are shown."""
        count = 1 + int(rng.choice(len(_SHOWN_ODDS), p=_SHOWN_ODDS))
        if count == 2:
            pair = self._pairs[int(rng.integers(len(self._pairs)))]
            return [pair[int(i)] for i in rng.permutation(2)]
        return [VIEWS[int(i)] for i in rng.permutation(len(VIEWS))[:count]]

    def _receive(
        self, picked: npt.NDArray[np.int64], shown: Sequence[Sequence[ViewName]], draw: Draw
    ) -> list[dict[ViewName, Tensor]]:
        """Received embeddings of every view that is shown: one codeword and one SNR each."""
        link, uplink = self.link, self.training.uplink
        lengths, odds = zip(*uplink.token_lengths, strict=True)
        received: list[dict[ViewName, Tensor]] = [dict.fromkeys(views, torch.empty(0)) for views in shown]
        for view in VIEWS:
            rows = [row for row, views in enumerate(shown) if view in views]
            if not rows:
                continue
            slot = slot_of(view)
            model, fading, snr_db_B = uplink.radio.draw(len(rows), draw.generator)
            features = torch.from_numpy(self.rooms.features[view][picked[rows]].astype(np.float32))
            with torch.no_grad():
                sent = link.send(slot, features.to(link.device), int(draw.rng.choice(lengths, p=odds)))
            x_BTC, told_db_B = transmit(sent, model, fading, snr_db_B, draw.generator)
            for row, embeddings in zip(rows, link.receiver(slot)(x_BTC, told_db_B), strict=True):
                received[row][view] = embeddings
        return received

    def _row(self, room: Room, received: Mapping[ViewName, Tensor], rng: np.random.Generator) -> Row:
        training = self.training
        ago = AGOS[int(rng.integers(len(AGOS)))]
        names = other_names(OTHER_WORDS, rng) if rng.random() < training.other_names_odds else {}
        views = []
        for view, embeddings in received.items():
            label = self._encode(renamed(label_of(view, ago), names))
            tag = tag_of(self.link.embedding, label)
            views.append(View(slot_of(view), embeddings + tag, label))
        row = Row.about(views, self.link.special)
        for question in draw_room_questions(
            room, ago, frozenset(received), training.odds, training.questions, rng
        ):
            asked = renamed(question.text, names)
            row.ask(self._encode(asked), self._encode(question.asked.answer))
        return row

    def _encode(self, text: str) -> list[int]:
        return tk.encode(self.link.tokenizer, text)
