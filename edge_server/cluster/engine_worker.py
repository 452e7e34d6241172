"""An engine of a cluster: pulls questions, has them computed by an engine of this process, tells the answers.

    work queue ──▶ Puller ──▶ engine.submit ──▶ pieces ──▶ the door's inbox
                     ▲             │ end ──▶ the claim, the door ──▶ acknowledged
                     └── room ─────┘

A question stays in the queue until its end is told. It is delivered again where its engine is not heard of
for the ack wait, or hands it back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from edge_server.cluster.answers import refusal_of, text_of, whole_of
from edge_server.cluster.beat import beat
from edge_server.cluster.claims import Claims
from edge_server.cluster.connection import BrokerError, Connection
from edge_server.cluster.ending import end
from edge_server.cluster.members import EVERY_S, Members, tell
from edge_server.cluster.questions import request_of
from edge_server.cluster.subjects import QueueSubjects
from edge_server.cluster.work_queue import Delivery, Puller
from edge_server.cluster.work_tracing import WorkTracing
from edge_server.engine import AnswerStream, Delta, EngineClient
from edge_server.errors import (
    DeadlineExpiredError,
    DrainingError,
    EdgeServerError,
    EngineFailureError,
    EngineOverloadedError,
    QuestionCancelledError,
)
from protos.tokenlink.v1 import cluster_pb2 as cb

logger = logging.getLogger(__name__)

_SPARE = 0.25
"""Beyond the rows that are computed, so many of them are in hand to follow at once."""
_TIMES = 12
"""A question that was delivered so often ends its engines, it seems."""
_DELIVER_S = 10.0
"""For so long a door is tried that is not to be reached [s]."""
_REQUEST_S, _RETRY_S, _HAND_BACK_S = 1.0, 0.2, 0.1
_CANCELLED_KEPT = 10_000


class EngineWorker:
    """Has an engine answer what the queue of its model holds.

    Args:
        engine: computes; started and stopped by this.
        rows: questions that it computes together.
        connection: to the broker.
        queue: names the model in the cluster.
        clock: monotonic seconds.
        wall_clock: seconds since the Unix epoch.
        tracing: is told spans; None: nobody is.
    """

    def __init__(
        self,
        engine: EngineClient,
        rows: int,
        connection: Connection,
        queue: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        tracing: WorkTracing | None = None,
    ) -> None:
        self.engine = engine
        self._rows = rows
        self._connection = connection
        self._subjects = QueueSubjects(queue)
        self._wall_clock = wall_clock
        self._tracing = tracing
        self._claims = Claims(connection, wall_clock)
        self._puller = Puller(connection, self._subjects, self._room, self._take, clock)
        self._in_hand: dict[str, Delivery] = {}
        self._untold: set[str] = set()
        self._streams: dict[str, AnswerStream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._cancelled: OrderedDict[str, None] = OrderedDict()
        self._pulling = False
        self._doors = Members(clock)
        self._listening: list[Subscription] = []
        self._beating: list[asyncio.Task[None]] = []

    @property
    def in_hand(self) -> int:
        """Questions that were pulled and have not ended."""
        return len(self._in_hand)

    @property
    def askers(self) -> int:
        """Doors that serve this model now."""
        return len(self._doors.present)

    async def start(self) -> None:
        """Join the cluster and pull.

        Raises:
            ConfigurationError: the broker cannot be reached, or does not make the queue.
        """
        await self._connection.open()
        try:
            await self._connection.make_queue(self._subjects)
            await self.engine.start()
        except BaseException:
            await self._connection.close()
            raise
        client = self._connection.client
        self._listening = [
            await client.subscribe(self._subjects.cancel, cb=self._on_cancel),
            await client.subscribe(self._subjects.doors, cb=self._on_door),
        ]
        self._pulling = True
        await self._puller.start()
        hold_s = self._connection.config.ack_wait_s / 3
        self._beating = [
            asyncio.create_task(beat(self._tell, EVERY_S), name="tokenlink-engine-presence"),
            asyncio.create_task(beat(self._hold, hold_s), name="tokenlink-engine-progress"),
        ]

    async def drain(self) -> None:
        """Pull no more, and wait until everything in hand has ended."""
        await self._pull_no_more()
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self.engine.drain()

    async def stop(self) -> None:
        """End at once; what is in hand goes to others."""
        if not self._beating:
            return
        await self._pull_no_more()
        await self.engine.stop()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2.0)
        beating, self._beating = self._beating, []
        await asyncio.gather(*map(end, beating))
        for subscription in self._listening:
            with contextlib.suppress(*BrokerError):
                await subscription.unsubscribe()
        await self._connection.close()

    async def _pull_no_more(self) -> None:
        if self._pulling:
            self._pulling = False
            await self._puller.stop()

    def _room(self) -> int:
        if not (self._pulling and self.engine.status.ready):
            return 0
        to_compute = len(self._in_hand) - len(self._untold)
        return max(int(self._rows * (1 + _SPARE)), self._rows + 1) - to_compute

    async def _take(self, delivery: Delivery) -> None:
        uid = delivery.work.uid
        if uid in self._cancelled:
            self._begin(self._drop(delivery))
            return
        twice = uid in self._in_hand
        # Of one that this engine has already, the newest delivery is the one to be acknowledged.
        self._in_hand[uid] = delivery
        if twice:
            return
        self._begin(self._run(delivery))

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drop(self, delivery: Delivery) -> None:
        """One that was taken back is not run, and its claim is free for who asks it beside."""
        if delivery.work.claim:
            await self._claims.end(delivery.work, refusal_of(QuestionCancelledError()))
        await delivery.done()

    async def _run(self, delivery: Delivery) -> None:
        work, back_s = delivery.work, -1.0
        pulled_s, error = self._wall_clock(), ""
        try:
            if delivery.times > 1 and await self._ended_before(work):
                return
            how = await self._answer(delivery)
            error = how.kind if isinstance(how, cb.Refusal) else ""
            await self._end(work, how)
        except (EngineOverloadedError, DrainingError) as refused:
            back_s, error = _HAND_BACK_S, type(refused).__name__
        except Exception as fault:
            error = type(fault).__name__
            logger.exception("question %r failed", work.question.request_id)
            failure = EngineFailureError(f"the engine failed on this question: {fault}")
            await self._end(work, refusal_of(failure))
        finally:
            self._streams.pop(work.uid, None)
            newest = self._in_hand.pop(work.uid)
            if back_s < 0:
                await newest.done()
            else:
                await newest.hand_back(back_s)
            await self._puller.ask()
            # Last: a fault of what takes spans costs no question, and no room for others.
            self._trace(delivery, pulled_s, error)

    def _trace(self, delivery: Delivery, pulled_s: float, error: str) -> None:
        if self._tracing is None or not delivery.traceparent:
            return
        facts: dict[str, str | int] = {
            "node": self._connection.node,
            "request_id": delivery.work.question.request_id[:64],
            "delivered": delivery.times,
        }
        self._tracing.ran("work queue", delivery.traceparent, delivery.queued_at_s, pulled_s, facts)
        self._tracing.ran("engine", delivery.traceparent, pulled_s, self._wall_clock(), facts, error)

    async def _ended_before(self, work: cb.Work) -> bool:
        """Whether a question that is delivered again need not be run again; its end is told again."""
        if work.claim:
            found = await self._claims.find(work.claim)
            if found is not None and found[1].HasField("answer"):
                await self._reach_door(work, cb.AnswerPiece(uid=work.uid, whole=found[1].answer))
                return True
            return found is not None and found[0] != work.claimed
        probe = cb.AnswerPiece(uid=work.uid)
        return await self._reach_door(work, probe) != b"+"

    async def _answer(self, delivery: Delivery) -> cb.WholeAnswer | cb.Refusal:
        """Run a question and tell pieces of its answer; how it ended.

        Raises:
            EngineOverloadedError, DrainingError: others are to run it.
        """
        work = delivery.work
        try:
            if delivery.times > _TIMES:
                raise EngineFailureError(f"engines ended {_TIMES} times while they had this question")
            remaining_s = work.deadline_at_s - self._wall_clock()
            if remaining_s <= 0:
                raise DeadlineExpiredError(work.deadline_s)
            stream = self.engine.submit(request_of(work, remaining_s))
            self._streams[work.uid] = stream
            texts = tokens = 0
            async for event in stream:
                if isinstance(event, Delta):
                    piece = cb.AnswerPiece(
                        uid=work.uid, text_offset=texts, token_offset=tokens, text=text_of(event)
                    )
                    texts += len(event.text)
                    tokens += len(event.tokens)
                    # What is lost of these comes with the end.
                    with contextlib.suppress(*BrokerError):
                        await self._connection.client.publish(work.inbox, piece.SerializeToString())
                else:
                    return whole_of(event)
            raise EngineFailureError("the answer had no end")
        except (EngineOverloadedError, DrainingError):
            raise
        except EdgeServerError as error:
            return refusal_of(error)

    async def _end(self, work: cb.Work, how: cb.WholeAnswer | cb.Refusal) -> None:
        """Tell the end of a question: to its claim, and to its door."""
        piece = cb.AnswerPiece(uid=work.uid)
        if isinstance(how, cb.WholeAnswer):
            piece.whole.CopyFrom(how)
        else:
            piece.refusal.CopyFrom(how)
        telling: list[Awaitable[object]] = [self._claims.end(work, how)] if work.claim else []
        if isinstance(how, cb.WholeAnswer) or how.kind != QuestionCancelledError.__name__:
            telling.append(self._reach_door(work, piece))  # who took it back knows
        await asyncio.gather(*telling)

    async def _reach_door(self, work: cb.Work, piece: cb.AnswerPiece) -> bytes:
        """Have a door take a piece; it says ``+``, or ``-`` where it does not wait for it, or nothing.

        A question whose door is not to be reached takes no place of what is computed: a door that dies with
        as many under way as the engines have room for would keep everybody else's waiting.
        """
        data, ends_s = piece.SerializeToString(), self._wall_clock() + _DELIVER_S
        try:
            while True:
                try:
                    return (await self._connection.client.request(work.inbox, data, timeout=_REQUEST_S)).data
                except BrokerError:
                    if self._wall_clock() > ends_s:
                        return b""
                if work.uid not in self._untold:
                    self._untold.add(work.uid)
                    await self._puller.ask()
                await asyncio.sleep(_RETRY_S)
        finally:
            self._untold.discard(work.uid)

    async def _on_cancel(self, message: Msg) -> None:
        uid = message.data.decode()
        self._cancelled[uid] = None
        while len(self._cancelled) > _CANCELLED_KEPT:
            self._cancelled.popitem(last=False)
        stream = self._streams.get(uid)
        if stream is not None:
            stream.cancel()

    async def _on_door(self, message: Msg) -> None:
        self._doors.hear(message.data)

    async def _tell(self) -> None:
        told = cb.Presence(
            node=self._connection.node,
            rows=self._rows,
            in_hand=len(self._in_hand),
            ready=self._pulling and self.engine.status.ready,
        )
        await tell(self._connection, self._subjects.engines, told)

    async def _hold(self) -> None:
        """What is in hand goes to nobody else for as long as this engine lives."""
        for delivery in list(self._in_hand.values()):
            await delivery.in_progress()
