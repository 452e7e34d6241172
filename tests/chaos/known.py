"""Questions whose answers are known, and who asks them while a server is hurt; in a process apart.

What a model answers is learnt from itself, unhurt and under the same load: where batches alone change what it
says, a question has several right answers, and what is none of them is wrong.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import grpc
import numpy as np

from deploy.loadtest.grpc_target import GrpcConnection, GrpcTarget, bundle_of
from deploy.loadtest.questions import Bundle, demo_questions, random_block, template_of
from deploy.loadtest.target import Failed, Question, Refused, Template
from device_agent.uplink.credentials import Credentials

QUESTIONS = 40
DEADLINE_S = 30.0
"""Of each question; the server has to end it by then."""
_LATE_S = 15.0
"""After that a question that did not end is lost."""
_LEAST_RETRY_S = 0.05

Answers = Mapping[int, frozenset[str]]
"""Right answers by the number of the question."""


@dataclass(frozen=True)
class Ending:
    """How one question ended.

    Attributes:
        number: of the question.
        asked_s: when it was asked [monotonic s].
        ended_s: when it ended.
        answer: None: it failed, or never ended.
        why: it has none; ``lost``: it never ended.
    """

    number: int
    asked_s: float
    ended_s: float
    answer: str | None
    why: str = ""


@dataclass
class Asking:
    """Asks until it is told to stop; made and used in a process apart.

    Attributes:
        address: of the gRPC door.
        users: how many ask at once.
        each_hz: questions of each per second.
        seed: of what is asked when.
        credentials: where certificates are asked for.
        each_alone: whether every question is asked once alone first.
    """

    address: str
    users: int = 8
    each_hz: float = 2.0
    seed: int = 1
    credentials: Credentials | None = None
    each_alone: bool = False
    endings: list[Ending] = field(default_factory=list)

    def run(self, seconds: float) -> list[Ending]:
        """Ask for so long, and wait for the ends of what was asked [s]."""
        asyncio.run(self._run(seconds))
        return self.endings

    async def _run(self, seconds: float) -> None:
        bundle = await asyncio.to_thread(bundle_of, self.address, self.credentials)
        templates = known_questions(bundle)
        target = GrpcTarget(self.address, bundle.hash, credentials=self.credentials)
        try:
            if self.each_alone:
                line = _Line(target, self.users)
                for number, template in enumerate(templates):
                    await self._ask(line, template, number)
                await line.close()
            until_s = time.monotonic() + seconds
            async with asyncio.TaskGroup() as tasks:
                for user in range(self.users):
                    tasks.create_task(self._user(target, templates, user, until_s))
        finally:
            await target.close()

    async def _user(
        self, target: GrpcTarget, templates: Sequence[Template], user: int, until_s: float
    ) -> None:
        rng, line = random.Random(f"{self.seed}/{user}"), _Line(target, user)
        async with asyncio.TaskGroup() as tasks:
            for turn in itertools.count(user):
                await asyncio.sleep(rng.expovariate(self.each_hz))
                if time.monotonic() >= until_s:
                    break
                number = turn * 7 % len(templates)
                tasks.create_task(self._ask(line, templates[number], number))
        await line.close()

    async def _ask(self, line: _Line, template: Template, number: int) -> None:
        asked_s = time.monotonic()
        try:
            async with asyncio.timeout(DEADLINE_S + _LATE_S):
                answer = await line.answer(template.ask())
            self.endings.append(Ending(number, asked_s, time.monotonic(), answer))
        except TimeoutError:
            self.endings.append(Ending(number, asked_s, time.monotonic(), None, "lost"))
        except (Failed, Refused, grpc.aio.AioRpcError) as error:
            self.endings.append(Ending(number, asked_s, time.monotonic(), None, str(error)[:200]))


class _Line:
    """One user's connection, opened again where it was cut; refusals are obeyed."""

    def __init__(self, target: GrpcTarget, user: int) -> None:
        self._target, self._user = target, user
        self._open: GrpcConnection | None = None
        self._opening = asyncio.Lock()

    async def answer(self, question: Question) -> str:
        """Ask, again and again where it was not accepted."""
        while True:
            try:
                async with self._opening:
                    if self._open is None:
                        self._open = await self._target.connect(self._user)
                return await self._open.ask(question)
            except Refused as refused:
                await asyncio.sleep(max(refused.retry_delay_s, _LEAST_RETRY_S))
            except Failed as failed:
                if failed.code != "stream":
                    raise
                self._open = None
                await asyncio.sleep(_LEAST_RETRY_S)

    async def close(self) -> None:
        """Close it."""
        if self._open is not None:
            await self._open.close()


def known_questions(bundle: Bundle, count: int = QUESTIONS) -> list[Template]:
    """The same questions each time, with the same blocks of random tokens."""
    rows = demo_questions()
    made = []
    for number in range(count):
        rng = np.random.default_rng([number, 18])
        blocks = [random_block(rng, bundle.channel_dim, modality, 16) for modality in ("video", "audio")]
        text = rows[number % len(rows)]["question"]
        made.append(template_of(bundle, text, blocks[: 1 + number % 2], deadline_s=DEADLINE_S))
    return made


def ask_known(asking: Asking, seconds: float) -> list[Ending]:
    """Called in a process apart."""
    return asking.run(seconds)


def answers_of(endings: Sequence[Ending]) -> dict[int, frozenset[str]]:
    """What was answered, by question."""
    found: dict[int, set[str]] = defaultdict(set)
    for each in endings:
        if each.answer is not None:
            found[each.number].add(each.answer)
    return {number: frozenset(answers) for number, answers in found.items()}


def wrong(endings: Sequence[Ending], right: Answers) -> list[Ending]:
    """Those with an answer that is none of the right ones."""
    return [each for each in endings if each.answer is not None and each.answer not in right[each.number]]
