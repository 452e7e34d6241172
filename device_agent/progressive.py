"""A question in rounds: few tokens first, and more of them as the server asks, until it is sure enough.

    clip ─▶ Reserve (tokens at every length of a ladder) ─ the first ─▶ channel ─▶ question ──▶ server
               └── what is asked for ─▶ channel, as it is then ─▶ More ──▶ ▲        │ MoreWanted
                                                                          └────────┘

The server decides when enough has come (:mod:`edge_server.frontdoor.rounds`); here is what it can ask for.
Of a *nested* bundle a block is encoded once and only what is new is sent; of any other the block of the next
length is encoded when it is asked for, and sent whole.

A question that waits for the network has its reserve with it: payloads that no channel has touched, behind
those that go out first. They stay on the device until they are asked for.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from protos import payload
from protos.names import MODALITIES, SLOT_OF
from protos.tokenlink.v1 import tokenlink_pb2 as pb

Tokens = npt.NDArray[np.float32]
Delta = Callable[[str], None]
More = Callable[[pb.MoreWanted], Awaitable[Sequence[pb.TokenPayload]]]
"""What a request asked for, over the channel; what cannot be had is left out."""

_KEPT_AS = "float16"


@dataclass(frozen=True)
class Ladder:
    """How much is sent, and when it is enough.

    Attributes:
        lengths: tokens per modality that can be sent, rising; the first is sent at once.
        until: confidence from which no more is sent, from 0 to 1.
        abstain: whether an answer that never got there is held back.
    """

    lengths: tuple[int, ...]
    until: float
    abstain: bool = False

    def up_to(self, most: int) -> Ladder:
        """The rounds that may be sent; the first even where that is too long, to be refused by name."""
        return replace(self, lengths=tuple(n for n in self.lengths if n <= most) or self.lengths[:1])

    def message(self, *, nested: bool) -> pb.Rounds:
        """What the server is told of it."""
        return pb.Rounds(token_lengths=self.lengths, until=self.until, abstain=self.abstain, nested=nested)


class Reserve:
    """A clip's tokens at the lengths of a ladder, made when they are needed.

    Args:
        lengths: of the ladder.
        nested: whether the tokens of the longest hold those of all others at their beginning.
        encode: makes the tokens of a length, by modality; takes some time.

    Attributes:
        encode_s: what that took so far [s].
    """

    def __init__(
        self, lengths: Sequence[int], nested: bool, encode: Callable[[int], Awaitable[Mapping[str, Tokens]]]
    ) -> None:
        self.lengths = tuple(lengths)
        self.nested = nested
        self._encode = encode
        self.encode_s = 0.0
        self._made: dict[int, Mapping[str, Tokens]] = {}

    async def blocks(self, length: int) -> dict[str, Tokens]:
        """The block of every modality at a length of the ladder."""
        at = self.lengths[-1] if self.nested else length
        if at not in self._made:
            began_s = time.perf_counter()
            self._made[at] = await self._encode(at)
            self.encode_s += time.perf_counter() - began_s
        return {modality: x_TC[:length] for modality, x_TC in self._made[at].items()}

    async def wanted(self, wanted: pb.MoreWanted) -> dict[str, Tokens]:
        """What a request asks for, by modality, as far as there is such a thing."""
        found: dict[str, Tokens] = {}
        for block in wanted.blocks:
            name = MODALITIES.of_number.get(block.modality, "")
            if block.token_length in self.lengths:
                begins = block.first_token if self.nested else 0
                x_TC = (await self.blocks(block.token_length)).get(name)
                if x_TC is not None and begins < len(x_TC):
                    found[name] = x_TC[begins:]
        return found

    async def payloads(self) -> list[pb.TokenPayload]:
        """All of it, as a question keeps it that waits for the network."""
        return [
            payload.encode(x_TC, modality, _KEPT_AS)
            for length in (self.lengths[-1:] if self.nested else self.lengths)
            for modality, x_TC in (await self.blocks(length)).items()
        ]

    @classmethod
    def of(cls, question: pb.Question) -> Reserve:
        """Of a question that has waited for the network."""
        kept: dict[int, dict[str, Tokens]] = {}
        for each in _reserved(question):
            length, channel_dim = each.shape
            x_TC = payload.decode(each, max_token_length=length, channel_dim=channel_dim)
            kept.setdefault(length, {})[MODALITIES.of_number[each.modality]] = x_TC

        async def encode(length: int) -> Mapping[str, Tokens]:
            return kept.get(length, {})

        return cls(question.rounds.token_lengths, question.rounds.nested, encode)


def first_round(question: pb.Question) -> pb.Question:
    """A question that has waited for the network as it goes out: its reserve stays here."""
    if not question.HasField("rounds"):
        return question
    sent = pb.Question()
    sent.CopyFrom(question)
    del sent.payloads[:]
    sent.payloads.extend(each for each in question.payloads if each.HasField("channel"))
    return sent


def in_order(wanted: pb.MoreWanted, payloads: Sequence[pb.TokenPayload], *, nested: bool) -> None:
    """Say of payloads that answer a request where in their blocks they begin."""
    begins = {block.modality: block.first_token for block in wanted.blocks}
    for each in payloads:
        each.first_token = begins[each.modality] if nested else 0


def media_of(tokens: Mapping[str, Tokens]) -> dict[str, Tokens]:
    """Of what was encoded, that of which more can be sent: not the question's own text."""
    return {modality: x_TC for modality, x_TC in tokens.items() if modality in SLOT_OF}


def _reserved(question: pb.Question) -> Iterator[pb.TokenPayload]:
    # What has crossed a channel says so.
    return (each for each in question.payloads if not each.HasField("channel"))
