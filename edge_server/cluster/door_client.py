"""The engines of a cluster as one door sees them.

    submit ──▶ FairQueue ──▶ claim ──▶ work queue ═══▶ an engine
                 at the door   KV       of the model       │
    AnswerStream ◀── Retelling ◀── inbox ◀═════════════════┘

Questions wait at the door, where their users take turns and bounds are seen at once, as in front of an
engine in this process. As many are under way as the engines can compute soon
(:func:`edge_server.cluster.members.window`). Every accepted question ends: by its answer, by an error of its
engine, or here by its deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import secrets
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from edge_server.cluster.answers import completion_of, delta_of, error_of, refusal_of
from edge_server.cluster.beat import beat
from edge_server.cluster.claims import Answered, Claims, Mine, Others
from edge_server.cluster.connection import BrokerError, Connection
from edge_server.cluster.ending import end
from edge_server.cluster.members import EVERY_S, Members, tell, window
from edge_server.cluster.questions import Ticket, work_of
from edge_server.cluster.retelling import Retelling
from edge_server.cluster.subjects import QueueSubjects, inbox_of
from edge_server.cluster.work_queue import WorkQueue
from edge_server.engine import AnswerStream, Completion, EngineConfig, EngineObserver, Model, Request
from edge_server.engine.client import EngineStatus
from edge_server.engine.endings import outcome_of
from edge_server.engine.intake import Intake
from edge_server.engine.queue import FairQueue
from edge_server.engine.request import Job, JobState, Priority
from edge_server.errors import (
    DeadlineExpiredError,
    DrainingError,
    EdgeServerError,
    EngineFailureError,
    QuestionCancelledError,
)
from protos.tokenlink.v1 import cluster_pb2 as cb

logger = logging.getLogger(__name__)

_DEADLINE_GRACE_S = 1.0
_LOOK_S = 0.1
"""How often the end of a question is looked for that runs for another door."""
_USERS_PART = 4
"""One user's questions are at most this part of those under way, while others have some."""


@dataclass(eq=False)
class _Asked:
    """A question that was accepted."""

    uid: str
    stream: AnswerStream
    retelling: Retelling
    deadline_at_s: float
    work: cb.Work | None = None
    number: int = 0
    taken: bool = False
    first_token_at: float | None = None
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class DoorClient:
    """Implements :class:`edge_server.engine.client.EngineClient` on the engines of a cluster.

    Args:
        model: what is asked, as far as it is known without its weights.
        config: bounds, as of an engine in this process.
        connection: to the broker.
        queue: names the model in the cluster.
        observer: is told what happens.
        clock: monotonic seconds.
        wall_clock: seconds since the Unix epoch; deadlines travel by it.
        new_seed: of 64 bits, for questions that sample and bring none.
    """

    def __init__(
        self,
        model: Model,
        config: EngineConfig,
        connection: Connection,
        queue: str,
        observer: EngineObserver,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        new_seed: Callable[[], int] = lambda: secrets.randbits(64),
    ) -> None:
        self.model = model
        self.config = config
        self._connection = connection
        self._subjects = QueueSubjects(queue)
        self._observer = observer
        self._clock, self._wall_clock = clock, wall_clock
        self._claims = Claims(connection, wall_clock)
        self._work = WorkQueue(connection, self._subjects, wall_clock)
        # Nobody else's, even where two nodes were given one name.
        self._inbox = f"{inbox_of(connection.node)}.{secrets.token_hex(6)}.{queue}"
        self._queue = FairQueue(
            config.max_queue,
            config.max_queue_per_user,
            max_background_beside=config.max_background_beside,
        )
        self._intake = Intake(model, config, self._queue, observer, clock, new_seed)
        self._asked: dict[Job, _Asked] = {}
        self._by_uid: dict[str, Job] = {}
        self._under_way = 0
        self._engines, self._doors = Members(clock), Members(clock)
        self._uids = map(f"{secrets.token_hex(6)}.{{}}".format, itertools.count())
        self._idle = asyncio.Event()
        self._idle.set()
        self._watch: asyncio.Task[None] | None = None
        self._farewells: set[asyncio.Task[None]] = set()
        self._listening: list[Subscription] = []

    @property
    def status(self) -> EngineStatus:
        """How the cluster does, as this door hears."""
        engines = self._engines.present
        return EngineStatus(
            ready=self._intake.is_open and self._connection.up and self._engines.rows > 0,
            draining=not self._intake.is_open,
            waiting=len(self._queue),
            running=self._under_way,
            unanswered=len(self._asked),
            runners=sum(each.ready for each in engines),
            of_runners=len(engines),
        )

    @property
    def retry_delay_s(self) -> float:
        """After how long it pays to come again [s]."""
        return self._intake.retry_delay_s(len(self._asked))

    def admit(self, user: str, priority: Priority = "interactive") -> None:
        """Tell whether a question of this user would be accepted now; raises as :meth:`submit`."""
        self._intake.admit(user, priority)

    def submit(self, request: Request) -> AnswerStream:
        """Accept a question.

        Raises:
            EdgeServerError: as :meth:`edge_server.engine.intake.Intake.accept`.
        """
        job, evicted = self._intake.accept(request)
        stream = AnswerStream(lambda: self._give_up(job, QuestionCancelledError()))
        uid = next(self._uids)
        self._asked[job] = _Asked(uid, stream, Retelling(stream), self._wall_clock() + job.deadline_s)
        self._by_uid[uid] = job
        self._idle.clear()
        if evicted is not None:
            self._settle(evicted, self._intake.eviction(len(self._asked)))
        self._send()
        return stream

    async def start(self) -> None:
        """Join the cluster and accept questions.

        Raises:
            ConfigurationError: the broker cannot be reached, or does not make the queue.
        """
        await self._connection.open()
        try:
            await self._connection.make_queue(self._subjects)
            client = self._connection.client
            self._listening = [
                await client.subscribe(self._inbox, cb=self._on_piece),
                await client.subscribe(self._subjects.engines, cb=self._on_engine),
                await client.subscribe(self._subjects.doors, cb=self._on_door),
            ]
        except BaseException:
            await self._connection.close()
            raise
        self._intake.is_open = True
        self._watch = asyncio.create_task(beat(self._watch_over, EVERY_S), name="tokenlink-door-watch")

    async def drain(self) -> None:
        """Accept nothing new and wait until every accepted question has ended."""
        self._intake.is_open = False
        await self._idle.wait()

    async def stop(self) -> None:
        """End at once: what is unanswered fails with :class:`DrainingError`."""
        self._intake.is_open = False
        watch, self._watch = self._watch, None
        if watch is None:
            return
        await end(watch)
        for job in list(self._asked):
            self._give_up(job, DrainingError())
        if self._farewells:
            await asyncio.wait(self._farewells, timeout=2.0)
        for subscription in self._listening:
            with contextlib.suppress(*BrokerError):
                await subscription.unsubscribe()
        await self._connection.close()

    def _send(self) -> None:
        """Put as many on their way as the engines can compute soon."""
        allowed = window(self._engines, self._doors, self._connection.node)
        self._queue.limit_users(max(allowed // _USERS_PART, 1))
        while self._under_way < allowed:
            job = self._queue.pop(self.config.max_batch_positions)
            if job is None:
                return
            asked = self._asked[job]
            asked.taken = True
            self._under_way += 1
            job.advance(JobState.RUNNING)
            self._begin(asked.tasks, self._carry(job, asked))

    def _begin(self, tasks: set[asyncio.Task[None]], work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _carry(self, job: Job, asked: _Asked) -> None:
        """Take a question to the queue, or its answer from whoever runs it for another door."""
        try:
            await self._ask(job, asked)
        except EdgeServerError as error:
            self._settle(job, error)
        except Exception as error:
            logger.exception("question %r was not brought to an engine", job.request.request_id)
            self._settle(job, EngineFailureError(f"the cluster failed on this question: {error}"))

    async def _ask(self, job: Job, asked: _Asked) -> None:
        ticket = Ticket(asked.uid, self._inbox, asked.deadline_at_s, job.deadline_s, job.max_new_tokens)
        known_as = job.request.asked_as
        if known_as is None:
            asked.work = work_of(job.request, ticket)
            asked.number = await self._work.put(asked.work, asked.uid, job.request.traceparent)
            return
        while True:
            claimed = await self._claims.claim(known_as, asked.deadline_at_s, job.deadline_s)
            if isinstance(claimed, Answered):
                self._settle(job, completion_of(claimed.answer))
                return
            ticket = replace(ticket, claim=claimed.key, claimed=claimed.revision, digest=known_as.digest)
            work = work_of(job.request, ticket)
            if not isinstance(claimed, Others):
                asked.work = work
            # Whichever door's comes first is run, and told to that door: not always the claimer.
            asked.number = await self._work.put(
                work, f"{claimed.key}.{claimed.revision}", job.request.traceparent
            )
            if asked.number:
                asked.work = work
                if not isinstance(claimed, Others):
                    return
            if await self._followed(job, claimed):
                return

    async def _followed(self, job: Job, claimed: Mine) -> bool:
        """Wait for the end of a run of another door; False where it was taken back: it may run again."""
        while True:
            await asyncio.sleep(_LOOK_S)
            found = await self._claims.find(claimed.key)
            if found is None:
                continue
            _, claim = found
            if claim.HasField("answer"):
                self._settle(job, completion_of(claim.answer))
                return True
            if claim.HasField("refusal"):
                error = error_of(claim.refusal, job.deadline_s)
                if isinstance(error, QuestionCancelledError):
                    return False
                self._settle(job, error)
                return True
            if self._wall_clock() > claim.deadline_at_s:
                return False

    async def _on_piece(self, message: Msg) -> None:
        piece = cb.AnswerPiece.FromString(message.data)
        job = self._by_uid.get(piece.uid)
        if job is not None:
            self._take_piece(job, self._asked[job], piece)
        if message.reply:
            # Whoever asks whether it is wanted still, or tells its end, waits for this.
            with contextlib.suppress(*BrokerError):
                await message.respond(b"-" if job is None else b"+")

    def _take_piece(self, job: Job, asked: _Asked, piece: cb.AnswerPiece) -> None:
        body = piece.WhichOneof("body")
        try:
            if body is not None and body != "refusal" and asked.first_token_at is None:
                asked.first_token_at = self._clock()
            if body == "text":
                asked.retelling.piece(piece.text_offset, piece.token_offset, delta_of(piece.text))
            elif body == "whole":
                self._settle(job, completion_of(piece.whole))
            elif body == "refusal":
                self._settle(job, error_of(piece.refusal, job.deadline_s))
        except EdgeServerError as error:
            self._give_up(job, error)

    async def _on_engine(self, message: Msg) -> None:
        self._engines.hear(message.data)
        self._send()

    async def _on_door(self, message: Msg) -> None:
        self._doors.hear(message.data)

    def _give_up(self, job: Job, error: EdgeServerError) -> None:
        """End a question here, whatever becomes of it there."""
        asked = self._asked.get(job)
        if asked is None:
            return
        job.advance(JobState.CANCELLED)
        self._queue.remove(job)
        self._settle(job, error)
        if asked.taken and self._connection.up:
            self._begin(self._farewells, self._take_back(asked))

    async def _take_back(self, asked: _Asked) -> None:
        await self._work.take_back(asked.uid, asked.number)
        if asked.work is not None and asked.work.claim:
            await self._claims.end(asked.work, refusal_of(QuestionCancelledError()))

    def _settle(self, job: Job, how: Completion | EdgeServerError) -> None:
        asked = self._asked.get(job)
        if asked is None:
            return
        now = self._clock()
        since_submit_s = now - job.submitted_at
        tokens = 0
        if isinstance(how, Completion):
            first_s = (asked.first_token_at or now) - job.submitted_at
            # To its asker, all that is not computing is waiting.
            queue_s = max(since_submit_s - how.compute_s, 0.0)
            how = replace(how, queue_s=queue_s, first_token_s=first_s)
            asked.retelling.end(how)
            tokens = how.answer_tokens
            self._intake.rate.ended([how], now)
            self._observer.first_token(queue_s, first_s)
            self._observer.answered(job.request, how)
        else:
            asked.stream.fail(how)
        del self._asked[job], self._by_uid[asked.uid]
        self._observer.ended(
            "answered" if isinstance(how, Completion) else outcome_of(how), tokens, since_submit_s
        )
        if asked.taken:
            self._under_way -= 1
            self._queue.charge_tokens([job] * tokens)
            self._queue.release(job)
        for task in asked.tasks:
            if task is not asyncio.current_task():
                task.cancel()
        if not self._asked:
            self._idle.set()
        self._send()

    async def _watch_over(self) -> None:
        """Deadlines hold whatever the cluster does; the others hear how this door does."""
        now = self._clock()
        for job in self._queue.remove_expired(now):
            self._settle(job, DeadlineExpiredError(job.deadline_s))
        for job in [job for job in self._asked if job.deadline_at + _DEADLINE_GRACE_S <= now]:
            self._give_up(job, DeadlineExpiredError(job.deadline_s))
        told = cb.Presence(node=self._connection.node, in_hand=len(self._asked), ready=self._intake.is_open)
        with contextlib.suppress(*BrokerError):
            await tell(self._connection, self._subjects.doors, told)
        self._send()
