"""Devices of a round: who is connected, what each has sent for the present step, what is told to whom."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from edge_server.cotrain.batches import DeviceBatch
from protos.gradients import Array
from protos.tokenlink.v1 import cotrain_pb2 as cpb

Heads: TypeAlias = dict[str, dict[str, Array]]
"""Weights of a device's heads, by transmitter and name."""


@dataclass
class Counters:
    """What became of a device's part in the round."""

    steps: int = 0
    """Steps that its batch was part of."""
    late: int = 0
    """Batches that came after their step was closed, or again; some of them counted in a later step."""
    missed: int = 0
    """Steps that went on without it."""
    refused: int = 0
    """Messages that could not be used."""
    joins: int = 0
    """Streams that it opened."""
    up_bytes: int = 0
    """Of its batches."""
    down_bytes: int = 0
    """Of its gradients."""


@dataclass(eq=False)
class Member:
    """A device's present stream.

    Attributes:
        device: its name.
        bundle_hash: of the bundle that it runs.
        examples: that it learns from.
        held_out: that it is examined with.
        outbox: what is to be sent to it; None ends its stream.
        in_a_row: steps that it missed since it was last in time.
    """

    device: str
    bundle_hash: str
    examples: int
    held_out: int
    outbox: asyncio.Queue[cpb.LearnDownlink | None] = field(default_factory=lambda: asyncio.Queue(64))
    in_a_row: int = 0

    def tell(self, **body: Any) -> None:
        """Send something; a device that takes nothing for long loses the stream."""
        try:
            self.outbox.put_nowait(cpb.LearnDownlink(**body))
        except asyncio.QueueFull:
            self.end()

    def end(self) -> None:
        """End its stream once what was told is sent."""
        while self.outbox.full():
            self.outbox.get_nowait()
        self.outbox.put_nowait(None)


@dataclass
class Wanted:
    """What is being waited for.

    Attributes:
        step: of the round.
        purpose: of the batches; None: heads are waited for.
        batches: that have come, by device.
        heads: likewise.
    """

    step: int
    purpose: cpb.Purpose | None
    batches: dict[str, DeviceBatch] = field(default_factory=dict)
    heads: dict[str, Heads] = field(default_factory=dict)

    def has(self, device: str) -> bool:
        """Whether a device's part is there."""
        return device in (self.heads if self.purpose is None else self.batches)


class Latecomers:
    """Batches that came after their step was closed, and may count in a later one; what they may hold.

    Args:
        most: steps that a batch may be late.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[str, DeviceBatch] = {}
        self._taken: dict[str, int] = {}
        self._asked: dict[str, dict[int, int]] = {}

    def ask(self, device: str, step: int, clips: int) -> None:
        """A device is asked for clips at a step, over whichever of its streams."""
        before = {number: each for number, each in self._asked.get(device, {}).items() if number < step}
        self._asked[device] = {
            number: each for number, each in before.items() if number >= step - self._most
        } | {step: clips}

    def clips(self, device: str, step: int) -> int:
        """Clips that a device was asked for; 0: it was not, or so long ago that its batch counts no more."""
        return self._asked.get(device, {}).get(step, 0)

    def missed(self, device: str, step: int) -> int:
        """Steps since a device's last batch that counted, before this one; none, where none has."""
        return step - self._taken.get(device, step - 1) - 1

    def keep(self, device: str, batch: DeviceBatch) -> None:
        """A batch of a step that is closed."""
        self._kept[device] = batch

    def add_to(self, wanted: Wanted, connected: Collection[str]) -> None:
        """Add them to a step that closes, where their device has sent nothing newer; each counts once."""
        kept, self._kept = self._kept, {}
        for device, batch in kept.items():
            fresh = self._taken.get(device, -1) < batch.step >= wanted.step - self._most
            if fresh and device in connected and not wanted.has(device):
                wanted.batches[device] = batch
        self._taken |= {device: batch.step for device, batch in wanted.batches.items()}
