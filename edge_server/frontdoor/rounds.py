"""A question in rounds: asked with what is there, and answered once its answer is sure enough.

    submit ─▶ completion ─▶ sure enough, or nothing more to be had ──▶ answer (or held back)
      ▲                          │ no
      └── more arrived ◀── MoreWanted: the next tokens of the modality that helps most

What arrived stays here until the question ends: by its answer, an error, its deadline, or a cancel, whoever
says it. Every round is a question of its own to the engine, under the time that is left. One that cannot be
taken any further (a full engine, a server that drains, a device that sends no more) ends with the answer of
the round before.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from edge_server.cell import Arrived, Hold, Ladder, ReceivedBlock
from edge_server.engine import AnswerStream, AskedAs, Completion, Delta, FeatureBlock, Request
from edge_server.errors import DeadlineExpiredError, EdgeServerError, QuestionCancelledError
from edge_server.frontdoor.status import known
from protos import token_snr
from protos.names import SLOT_OF, clamp_snr_db

logger = logging.getLogger(__name__)

Submit: TypeAlias = Callable[[Request], AnswerStream]
"""Hands a round to the engine; raises what that raises."""


@dataclass(frozen=True)
class Climb:
    """How a question climbs, and where it may stop.

    Attributes:
        ladder: what is asked for next.
        until: calibrated confidence from which an answer is enough.
        abstain: whether an answer that never got there is held back.
        unsure: what is said in its place.
    """

    ladder: Ladder
    until: float
    abstain: bool
    unsure: str


@dataclass(frozen=True)
class Wanted:
    """A request for more.

    Attributes:
        round: counts a question's requests, from 1.
        lengths: by modality, tokens that its block is to have.
        begins: likewise, tokens before those that are wanted, where blocks are nested.
        again: modalities whose tokens of before are wanted once more.
    """

    round: int
    lengths: Mapping[str, int]
    begins: Mapping[str, int]
    again: frozenset[str]


class RoundsRun:
    """One question in rounds. Belongs to an event loop; its first round is submitted when it is made.

    Args:
        request: its first round, as it would be asked at once.
        received: what has come of the modalities that can be asked for more.
        climb: how it goes on.
        submit: to the engine.
        deadline_s: within which it ends, though nothing more be heard of its device [s].
        on_wanted: told of each request for more.
        clock: monotonic seconds.

    Attributes:
        answer: how it ends.

    Raises:
        EdgeServerError: what ``submit`` raises for the first round.
    """

    def __init__(
        self,
        request: Request,
        received: Mapping[str, ReceivedBlock],
        climb: Climb,
        submit: Submit,
        *,
        deadline_s: float,
        on_wanted: Callable[[Wanted], None] = lambda wanted: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.answer = AnswerStream(self._cancel)
        self._request = request
        self._received = dict(received)
        self._climb = climb
        self._submit = submit
        self._on_wanted = on_wanted
        self._clock = clock
        self._deadline_s = deadline_s
        self._deadline_at = clock() + deadline_s
        self._wanted: Wanted | None = None
        self._requests = 0
        self._news = asyncio.Event()
        self._more = asyncio.Event()
        self._over = False
        self._holds: list[Hold] = []
        self._when_over: Callable[[], object] = lambda: None
        self._passed: list[Completion] = []
        self._running = None if self._lost() else self._submitted()
        self._task = asyncio.create_task(self._run())

    @property
    def wanted(self) -> Wanted | None:
        """The request that waits for its answer; None: nothing is waited for."""
        return self._wanted

    @property
    def received(self) -> Mapping[str, ReceivedBlock]:
        """What is there, by modality."""
        return self._received

    def when_over(self, callback: Callable[[], object]) -> None:
        """Have one callback called when nothing is held for it any more."""
        self._when_over = callback

    async def requests(self) -> AsyncIterator[Wanted]:
        """Requests as they come, to the question's end; to who comes late, the one that waits."""
        told = 0
        while not self.answer.ended:
            news, wanted = self._news, self._wanted
            if wanted is not None and wanted.round > told:
                told = wanted.round
                yield wanted
            else:
                await news.wait()

    def deliver(self, received: Mapping[str, ReceivedBlock], hold: Hold) -> None:
        """What the request that waits asked for has come.

        Args:
            received: the blocks as they are now, by modality; those that could not be had are left out.
            hold: of what is in memory for it; kept until the end.
        """
        self._holds.append(hold)
        self._received |= received
        self._over = self._over or not received
        self._wanted = None
        self._more.set()

    def end_soon(self) -> None:
        """Ask for nothing more: end with the answer of what is there."""
        self._over = True
        self._more.set()

    def fail(self, error: EdgeServerError) -> None:
        """End without an answer."""
        if not self.answer.ended:
            self.answer.fail(error)
            self._stop()

    def _cancel(self) -> None:
        self.fail(QuestionCancelledError())

    def _stop(self) -> None:
        self._task.cancel()
        self._free()

    def _free(self) -> None:
        """Nothing is held for it any more, here or in the engine."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
        for hold in self._holds:
            hold.release()
        self._holds.clear()
        self._received.clear()
        self._tell()
        self._when_over()

    async def _run(self) -> None:
        error: EdgeServerError = DeadlineExpiredError(self._deadline_s)
        try:
            await self._to_the_end()
        except Exception as failed:
            if not isinstance(failed, EdgeServerError):
                logger.exception(
                    "a question in rounds failed", extra={"request_id": self._request.request_id}
                )
            error = known(failed)
        if self._passed:
            self._tell_answer()
        else:
            self.answer.fail(error)
        self._free()

    async def _to_the_end(self) -> None:
        while True:
            if self._running is not None:
                self._passed.append(await self._running.completion())
                self._running = None
                if self._is_enough(self._passed[-1]):
                    return
            wanted = self._lost() or self._climb.ladder.next(self._arrived())
            if not self._over and wanted and not await self._has_come(wanted):
                return  # its time is over
            if self._passed and (self._over or not wanted):
                return
            self._running = None if self._lost() and not self._over else self._submitted()

    async def _has_come(self, wanted: Mapping[str, int]) -> bool:
        """Ask for more and wait until there is an answer to that; False: there was none in time."""
        there = {modality: self._received[modality] for modality in wanted}
        again = frozenset(m for m, block in there.items() if wanted[m] == block.token_length)
        begins = {m: block.last_begins if m in again else block.token_length for m, block in there.items()}
        self._requests += 1
        self._wanted = Wanted(self._requests, dict(wanted), begins, again)
        self._more.clear()
        self._on_wanted(self._wanted)
        self._tell()
        try:
            async with asyncio.timeout(max(self._deadline_at - self._clock(), 0.0)):
                await self._more.wait()
        except TimeoutError:
            return False
        finally:
            self._wanted = None
        return True

    def _lost(self) -> dict[str, int]:
        return self._climb.ladder.lost(self._arrived())

    def _arrived(self) -> dict[str, Arrived]:
        return {
            modality: Arrived(
                SLOT_OF[modality], block.token_length, block.last.snr_db, block.last.receptions - 1
            )
            for modality, block in self._received.items()
        }

    def _submitted(self) -> AnswerStream:
        """Ask with what is there, within the time that is left."""
        request = self._request
        there = {
            modality: FeatureBlock(
                modality,
                block.tokens(),
                clamp_snr_db(block.snr_db()),
                # As one block would tell it: also what crosses to an engine elsewhere.
                token_snr_db_T=token_snr.rounded(block.token_snr_db()),
            )
            for modality, block in self._received.items()
        }
        blocks = tuple(there.get(block.modality, block) for block in request.prompt.blocks)
        asked_as = request.asked_as
        if asked_as is not None:
            # Where doors are many, a round is a question that may be asked elsewhere, with the same tokens.
            content = hashlib.sha256(asked_as.digest)
            for block in blocks:
                content.update(block.x_TC.tobytes())
            key = f"{asked_as.request_id}/{content.hexdigest()[:16]}"
            asked_as = AskedAs(asked_as.device_id, key, content.digest())
        return self._submit(
            replace(
                request,
                prompt=replace(request.prompt, blocks=blocks),
                deadline_s=max(self._deadline_at - self._clock(), 1e-3),
                whole=True,
                asked_as=asked_as,
            )
        )

    def _is_enough(self, answer: Completion) -> bool:
        """Whether it is sure; of one that is too long to be calibrated nothing is known, then or later."""
        if answer.abstained:
            return False
        return answer.confidence is None or answer.confidence >= self._climb.until

    def _tell_answer(self) -> None:
        """The last round's answer, at the cost of all; held back where that is wanted and it is not sure."""
        answer = replace(
            self._passed[-1],
            queue_s=sum(each.queue_s for each in self._passed),
            compute_s=sum(each.compute_s for each in self._passed),
        )
        if self._climb.abstain and not answer.abstained and not self._is_enough(answer):
            # The language tokens are those of the guess.
            answer = replace(
                answer, text=self._climb.unsure, guess=answer.text, abstained=True, logprobs=(), tokens=()
            )
        if not self._request.whole:
            self.answer.push(Delta(answer.text))
        self.answer.push(answer)

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()
