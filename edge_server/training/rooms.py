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

from edge_server.data.soundstage.room import VIEWS, Room, ViewName
from edge_server.data.soundstage.room_dataset import RoomSplit
from edge_server.model.link import Link
from edge_server.training.clips import EncodedClips, encode_media
from edge_server.training.forward import Draw, UplinkTraining, draw_of
from edge_server.training.loop import Schedule
from edge_server.training.radio import transmit
from edge_server.training.rewording import RewordedClips, RewordingTraining
from edge_server.training.room_rows import Asking, RoomRows, rooms_loss, slot_of
from edge_server.training.soundstage import SoundstageSplit

_ENCODED_AT_ONCE = 32


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
    asking: Asking = field(default_factory=Asking)
    """What of a room is shown, and asked."""
    between_weight: float = 0.25
    """Weight of saying half-way what has to be found in one view to be looked for in the other."""
    matched_weight: float = 0.25
    """Weight of saying, where an instrument is in a view, what the one before says of it."""


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
        self._rows = RoomRows(link, training.asking, rooms.rooms[:64])

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
        shown = [self._rows.shown(draw.rng) for _ in picked]
        received = self._receive(picked, shown, draw)
        rows = [
            self._rows.row(self.rooms.rooms[int(room)], views, draw.rng)
            for room, views in zip(picked, received, strict=True)
        ]
        several, right = rooms_loss(
            self.link, rows, self.training.between_weight, self.training.matched_weight
        )
        return alone + several, {"clips": right_alone["answers"], "rooms_loss": several.item(), **right}

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
