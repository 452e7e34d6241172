"""The engine as the event loop sees it: questions go in, streams of answers come out.

                              runner threads          post thread
    submit ──▶ FairQueue ──▶ Scheduler ──▶ queue ──▶ Detokenizer ──▶ call_soon_threadsafe ──▶ AnswerStream
                         └─▶ Scheduler ──┘           text          once per step
                              its runner

Each scheduler runs a batch of its own on a runner of its own. On a processor that is how it is used best:
threads that share one small matrix product wait for one another, batches side by side do not.

Every accepted question ends exactly once: with its answer, an error that says why, or its cancellation.
:meth:`Engine._settle` is the one place where it does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable
from typing import Generic

from edge_server.engine.answer import AnswerStream
from edge_server.engine.calibration import Calibration
from edge_server.engine.client import EngineStatus
from edge_server.engine.config import EngineConfig
from edge_server.engine.detokenizer import Detokenizer, Publication
from edge_server.engine.endings import outcome_of
from edge_server.engine.intake import Intake
from edge_server.engine.observer import EngineObserver, SilentObserver
from edge_server.engine.ports import Model, ModelRunner, StateT
from edge_server.engine.queue import FairQueue
from edge_server.engine.request import Completion, Delta, Job, JobState, Priority, Request
from edge_server.engine.scheduler import Scheduler
from edge_server.engine.worker import Driven, Worker
from edge_server.errors import (
    DeadlineExpiredError,
    DrainingError,
    EdgeServerError,
    QuestionCancelledError,
)

logger = logging.getLogger(__name__)

_WATCH_INTERVAL_S = 0.25
_DEADLINE_GRACE_S = 1.0


class Engine(Generic[StateT]):
    """Implements :class:`edge_server.engine.client.EngineClient`: questions of many users in one model.

    All methods are called from the event loop that called :meth:`start`.

    Args:
        model: what is asked.
        config: bounds.
        runner_of: what each of the batches computes with, by its number.
        clock: monotonic seconds.
        observer: is told what happens.
        new_seed: of 64 bits, for questions that sample and bring none.
    """

    def __init__(
        self,
        model: Model,
        config: EngineConfig | None = None,
        *,
        runner_of: Callable[[int], ModelRunner[StateT]],
        clock: Callable[[], float] = time.monotonic,
        observer: EngineObserver | None = None,
        new_seed: Callable[[], int] = lambda: secrets.randbits(64),
        calibration: Calibration | None = None,
    ) -> None:
        self.model = model
        self.config = config or EngineConfig()
        self._clock = clock
        self._observer = observer or SilentObserver()
        self._queue = FairQueue(
            self.config.max_queue,
            self.config.max_queue_per_user,
            self.config.max_user_rows,
            self.config.max_background_beside,
        )
        self._intake = Intake(model, self.config, self._queue, self._observer, clock, new_seed)
        self._detokenizer = Detokenizer(model.text, self._publish, calibration)
        self._schedulers = [
            Scheduler(
                runner_of(number),
                model.eos_id,
                self._queue,
                self.config,
                clock,
                self._observer,
                self._detokenizer.put,
            )
            for number in range(self.config.batches)
        ]
        self._workers: dict[str, Worker] = {}
        self._watch: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._streams: dict[Job, AnswerStream] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self) -> None:
        """Start the threads and accept questions."""
        self._loop = asyncio.get_running_loop()
        self._intake.is_open = True
        for name in self._driven:
            self._start_worker(name, takes_over=False)
        self._watch = asyncio.create_task(self._watch_over(), name="tokenlink-engine-watch")

    @property
    def ready(self) -> bool:
        """Whether questions are accepted and the threads make progress."""
        workers = self._workers.values()
        return (
            self._intake.is_open
            and bool(workers)
            and all(worker.alive and worker.step_s < self.config.stall_s for worker in workers)
            and any(scheduler.available for scheduler in self._schedulers)
        )

    @property
    def status(self) -> EngineStatus:
        """How it does."""
        runners, of_runners = self.runners
        return EngineStatus(
            self.ready, self.draining, self.waiting, self.running, self.unanswered, runners, of_runners
        )

    @property
    def runners(self) -> tuple[int, int]:
        """How many of the batches have a runner that computes, and how many batches there are."""
        return sum(scheduler.available for scheduler in self._schedulers), len(self._schedulers)

    @property
    def draining(self) -> bool:
        """Whether it was told to take nothing new."""
        return not self._intake.is_open

    @property
    def waiting(self) -> int:
        """Questions in the queue."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Questions in the running batches."""
        return sum(scheduler.rows for scheduler in self._schedulers)

    @property
    def unanswered(self) -> int:
        """Accepted questions whose end has not come."""
        return len(self._streams)

    @property
    def retry_delay_s(self) -> float:
        """After how long it pays to come again: most of what is unanswered now is answered then [s]."""
        return self._intake.retry_delay_s(len(self._streams))

    def admit(self, user: str, priority: Priority = "interactive") -> None:
        """Tell whether a question of this user would be accepted now, before work is put into it.

        Raises:
            DrainingError: nothing new is accepted.
            EngineOverloadedError: the queue, or this user's share of it, is full.
        """
        self._intake.admit(user, priority)

    def submit(self, request: Request) -> AnswerStream:
        """Accept a question.

        Raises:
            InvalidQuestionError: the model cannot take it, or it would not fit the batch alone.
            DrainingError: nothing new is accepted.
            EngineOverloadedError: the queue, or this user's share of it, is full.
        """
        job, evicted = self._intake.accept(request)
        stream = AnswerStream(lambda: self._cancel(job))
        self._streams[job] = stream
        self._idle.clear()
        if evicted is not None:
            self._settle(evicted, self._intake.eviction(len(self._streams)))
        return stream

    async def drain(self) -> None:
        """Accept nothing new and wait until every accepted question has ended."""
        self._intake.is_open = False
        await self._idle.wait()

    async def stop(self, timeout_s: float = 10.0) -> None:
        """End at once: what is unanswered fails with :class:`DrainingError`; the threads are joined."""
        self._intake.is_open = False
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
            self._watch = None
        for job in list(self._streams):
            job.advance(JobState.CANCELLED)
            self._queue.remove(job)
            self._settle(job, DrainingError())
        workers, self._workers = self._workers, {}
        self._detokenizer.close()
        for worker in workers.values():
            worker.stop()
        for name, worker in workers.items():
            if not await asyncio.to_thread(worker.join, timeout_s):
                logger.error("%s is still in one step after %.0f s; left behind", name, timeout_s)

    def _cancel(self, job: Job) -> None:
        job.advance(JobState.CANCELLED)
        self._queue.remove(job)
        self._settle(job, QuestionCancelledError())

    def _publish(self, news: list[Publication]) -> None:
        """From the detokenizer's thread."""
        assert self._loop is not None  # noqa: S101 (the worker is started after it is set)
        # A loop that has been closed has no askers left.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._deliver, news)

    def _deliver(self, news: list[Publication]) -> None:
        answers = [event for _, event in news if isinstance(event, Completion)]
        if answers:
            self._intake.rate.ended(answers, self._clock())
        for job, event in news:
            if isinstance(event, Delta):
                stream = self._streams.get(job)
                if stream is not None:
                    stream.push(event)
            else:
                self._settle(job, event)

    def _settle(self, job: Job, how: Completion | EdgeServerError) -> None:
        stream = self._streams.pop(job, None)
        if stream is None:
            return
        since_submit_s = self._clock() - job.submitted_at
        if isinstance(how, Completion):
            stream.push(how)
            self._observer.answered(job.request, how)
            self._observer.ended("answered", how.answer_tokens, since_submit_s)
        else:
            stream.fail(how)
            self._observer.ended(outcome_of(how), len(job.token_ids), since_submit_s)
        if not self._streams:
            self._idle.set()

    @property
    def _driven(self) -> dict[str, Driven]:
        batches = {f"tokenlink-batch-{n}": scheduler for n, scheduler in enumerate(self._schedulers)}
        return {**batches, "tokenlink-detokenizer": self._detokenizer}

    def _start_worker(self, name: str, *, takes_over: bool) -> None:
        worker = Worker(
            self._driven[name],
            name,
            self._clock,
            lambda death: self._on_death(name, death),
            takes_over=takes_over,
        )
        self._workers[name] = worker
        worker.start()

    def _on_death(self, name: str, death: BaseException) -> None:
        """From the dying thread."""
        assert self._loop is not None  # noqa: S101 (the threads are started after it is set)
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._replace_worker, name, death)

    def _replace_worker(self, name: str, death: BaseException) -> None:
        if name not in self._workers:
            return
        logger.error("%s died of %r and is replaced", name, death)
        self._observer.worker_replaced()
        self._start_worker(name, takes_over=True)

    async def _watch_over(self) -> None:
        """Deadlines hold even while the worker is stuck in one step: nothing hangs."""
        while True:
            await asyncio.sleep(_WATCH_INTERVAL_S)
            now = self._clock()
            overdue = [job for job in self._streams if job.deadline_at + _DEADLINE_GRACE_S <= now]
            for job in overdue:
                job.advance(JobState.CANCELLED)
                self._queue.remove(job)
                self._settle(job, DeadlineExpiredError(job.deadline_s))
