"""Devices that ask doors of a cluster over gRPC: each question until it is answered, at whichever lives."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import grpc
import grpc.aio
import numpy as np

from protos import payload
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from protos.tokenlink.v1.tokenlink_pb2_grpc import TokenLinkStub
from tests.benchmarks.cluster.serve_sleeping import CHANNEL_DIM, TOKEN_LENGTH, answer_to, bundle_of

_RETRY_S = 0.05


def block() -> pb.TokenPayload:
    """Of 5 kB."""
    x_TC = np.full((TOKEN_LENGTH, CHANNEL_DIM), 0.5**0.5, np.float32)
    return payload.encode(x_TC, "video", "float16")


@dataclass
class Tally:
    """What became of questions.

    Attributes:
        latencies_s: of each, from its first sending to its answer [s].
        answered: of them.
        wrong: answers that are not those of their question.
        by_version: answers of each version of the model.
        by_another: answers of another version than the bundles that their question was asked with.
        shown_twice: answers whose pieces, joined, are not the answer.
        retries: times that a question was sent again.
        ended_at: when each was answered, monotonic seconds.
    """

    latencies_s: list[float] = field(default_factory=list)
    answered: int = 0
    wrong: int = 0
    by_version: dict[int, int] = field(default_factory=dict)
    by_another: int = 0
    shown_twice: int = 0
    retries: int = 0
    ended_at: list[float] = field(default_factory=list)


class Doors:
    """The doors that there are; one may be replaced by another at any time.

    Args:
        targets: of gRPC channels.
        bundle_hash: of the bundle that devices run.
    """

    def __init__(self, targets: Sequence[str], bundle_hash: str) -> None:
        self.targets = list(targets)
        self.bundle_hash = bundle_hash


VERSIONS = (1, 2)
"""Of the model, that there are in any row."""


class Device:
    """Asks one question after another.

    Args:
        name: what it calls itself.
        doors: where to ask.
        first: number of the door that it begins with.
        tally: where it counts.
        payloads: of each question.
    """

    def __init__(
        self, name: str, doors: Doors, first: int, tally: Tally, payloads: Sequence[pb.TokenPayload] = ()
    ) -> None:
        self._name, self._doors, self._tally = name, doors, tally
        self._payloads = payloads
        self._place = first
        self._channel: grpc.aio.Channel | None = None
        self._stub: TokenLinkStub | None = None
        self._session = ""
        self._bundle_hash = ""

    async def ask(self, request_id: str, question_ids: tuple[int, ...], *, whole: bool = False) -> str:
        """Ask until there is an answer."""
        question = pb.Question(
            request_id=request_id,
            question_ids=question_ids,
            payloads=self._payloads,
            whole_answer=whole,
            deadline_ms=60_000,
        )
        began, asked_with = time.monotonic(), set[str]()
        if self._bundle_hash not in ("", self._doors.bundle_hash):
            await self.close()  # it has another bundle by now
        for tried in itertools.count():
            self._tally.retries += tried > 0
            try:
                told, answer = await self._once(question, asked_with)
            except grpc.aio.AioRpcError:
                await self._go_elsewhere()
                continue
            break
        now = time.monotonic()
        self._tally.latencies_s.append(now - began)
        self._tally.ended_at.append(now)
        self._tally.answered += 1
        self._judge(question_ids, answer, asked_with)
        self._tally.shown_twice += not whole and told != answer
        return answer

    def _judge(self, question_ids: tuple[int, ...], answer: str, asked_with: set[str]) -> None:
        by = [version for version in VERSIONS if answer == answer_to(question_ids, version)]
        self._tally.wrong += not by
        for version in by:
            self._tally.by_version[version] = self._tally.by_version.get(version, 0) + 1
            self._tally.by_another += bundle_of(version) not in asked_with

    async def close(self) -> None:
        """Hang up."""
        if self._channel is not None:
            await self._channel.close()
        self._channel = self._stub = None

    async def _once(self, question: pb.Question, asked_with: set[str]) -> tuple[str, str]:
        stub = await self._at_door()
        asked_with.add(self._bundle_hash)
        asked = pb.AskRequest(session_id=self._session, bundle_hash=self._bundle_hash, question=question)
        told = answer = ""
        async for frame in stub.Ask(asked):
            told += frame.delta.text
            if frame.WhichOneof("body") == "answer":
                answer = frame.answer.text
        return told, answer

    async def _at_door(self) -> TokenLinkStub:
        if self._stub is None:
            target = self._doors.targets[self._place % len(self._doors.targets)]
            self._channel = grpc.aio.insecure_channel(target)
            self._stub = TokenLinkStub(self._channel)  # type: ignore[no-untyped-call]
            self._bundle_hash = self._doors.bundle_hash
            opening = pb.OpenSessionRequest(device_id=self._name, bundle_hash=self._bundle_hash)
            opened = await self._stub.OpenSession(opening, timeout=10.0)
            self._session = opened.session_id
        return self._stub

    async def _go_elsewhere(self) -> None:
        await self.close()
        self._place += 1
        await asyncio.sleep(_RETRY_S)
