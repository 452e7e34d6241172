"""What a device sent for a step, checked: token blocks by slot, questions with answers as ids.

Nothing of a message is believed: sizes, shapes, values and ids are checked before anything is computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device_agent.cotrain.examples import MAX_ANSWER_TOKENS, Asked
from edge_server.model.modality import SLOTS, place_of
from protos import payload, token_snr
from protos.names import MODALITIES
from protos.payload import PayloadError
from protos.tokenlink.v1 import cotrain_pb2 as cpb

MAX_QUESTION_TOKENS = 256
MAX_ASKED = 64
"""Questions of a clip."""


@dataclass(frozen=True)
class SlotTokens:
    """One slot's tokens of a batch.

    Attributes:
        rows: of which examples they are.
        x_BTC: float32, as received.
        told_db_BT: float32, what the receiver is told of each token [dB].
    """

    rows: tuple[int, ...]
    x_BTC: npt.NDArray[np.float32]
    told_db_BT: npt.NDArray[np.float32]


@dataclass(frozen=True)
class DeviceBatch:
    """A device's part of a step.

    Attributes:
        slots: tokens by slot.
        asked: of each example.
        bytes: the message took.
        step: that it was asked for in; -1: none.
    """

    slots: Mapping[str, SlotTokens]
    asked: Sequence[Sequence[Asked]]
    bytes: int
    step: int = -1

    @property
    def questions(self) -> int:
        """In all."""
        return sum(len(each) for each in self.asked)


@dataclass(frozen=True)
class Bounds:
    """What a batch may hold.

    Attributes:
        channel_dim: reals per token.
        token_length: the longest block.
        examples: clips.
        vocab_size: ids are below it.
    """

    channel_dim: int
    token_length: int
    examples: int
    vocab_size: int


class BatchError(ValueError):
    """A batch that cannot be used; names the field, what was found and what is allowed."""


def read_batch(message: cpb.Batch, bounds: Bounds) -> DeviceBatch:
    """Check and unpack a batch.

    Raises:
        BatchError: names the field.
    """
    if not 1 <= len(message.examples) <= bounds.examples:
        raise BatchError(f"examples: {len(message.examples)}; 1 to {bounds.examples} allowed")
    found: dict[str, list[tuple[int, npt.NDArray[np.float32], npt.NDArray[np.float32]]]] = {}
    asked: list[tuple[Asked, ...]] = []
    for row, example in enumerate(message.examples):
        where = f"examples[{row}]"
        if not example.payloads:
            raise BatchError(f"{where}.payloads: is empty; a clip has at least one block")
        for index, each in enumerate(example.payloads):
            field = f"{where}.payloads[{index}]"
            try:
                x_TC = payload.decode(
                    each, max_token_length=bounds.token_length, channel_dim=bounds.channel_dim
                )
                of_each, snr_db = token_snr.reported(each), payload.reported_snr_db(each)
            except PayloadError as error:
                raise BatchError(f"{field}.{error}") from error
            slot = place_of(MODALITIES.of_number[each.modality])
            if slot not in SLOTS:
                raise BatchError(f"{field}.modality: fills no slot")
            of_slot = found.setdefault(slot, [])
            if of_slot and of_slot[-1][0] == row:
                raise BatchError(f"{field}.modality: a clip has one block of each slot")
            if of_slot and len(of_slot[-1][1]) != len(x_TC):
                raise BatchError(f"{field}.shape: blocks of a slot have one token length in a batch")
            told_T = np.full(len(x_TC), snr_db, np.float32) if of_each is None else of_each
            of_slot.append((row, x_TC, told_T))
        asked.append(_asked(where, example, bounds))
    slots = {
        slot: SlotTokens(
            tuple(row for row, _, _ in found[slot]),
            np.stack([x_TC for _, x_TC, _ in found[slot]]),
            np.stack([told_T for _, _, told_T in found[slot]]),
        )
        for slot in SLOTS
        if slot in found
    }
    return DeviceBatch(slots, asked, message.ByteSize(), message.step)


def _asked(where: str, example: cpb.Example, bounds: Bounds) -> tuple[Asked, ...]:
    if not 1 <= len(example.asked) <= MAX_ASKED:
        raise BatchError(f"{where}.asked: {len(example.asked)}; 1 to {MAX_ASKED} allowed")
    found = []
    for index, each in enumerate(example.asked):
        for name, ids, most in (
            ("question_ids", each.question_ids, MAX_QUESTION_TOKENS),
            ("answer_ids", each.answer_ids, MAX_ANSWER_TOKENS),
        ):
            field = f"{where}.asked[{index}].{name}"
            if not 1 <= len(ids) <= most:
                raise BatchError(f"{field}: {len(ids)} language tokens; 1 to {most} allowed")
            if max(ids) >= bounds.vocab_size:
                raise BatchError(f"{field}: holds {max(ids)}; the vocabulary has {bounds.vocab_size}")
        found.append(Asked(tuple(each.question_ids), tuple(each.answer_ids)))
    return tuple(found)
