"""One iteration of the batch: questions leave and join between decode steps.

    drop ──▶ admit ──▶ prefill ──▶ decode ──▶ tell
     ▲  cancelled, expired: before they cost compute  │
     └────────────────────────────────────────────────┘

A step reads no more prompts than :attr:`EngineConfig.max_prefill_positions` while rows wait for their next
word: what a step takes, and with it the gap between two words of an answer, is bounded. To read even one
prompt takes longer than a word, so that after a prefill some words are told before the next: who comes
meanwhile waits a little, and is read together with others.

No threads, no event loop in here: :class:`Scheduler` is driven by a worker thread, or by a test.

When the runner raises, its state is not trusted any more: every row is run again alone, from its prompt
up to where it was, so that only the question that is at fault fails (:meth:`Scheduler._recover`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Generic

from edge_server.engine.config import EngineConfig
from edge_server.engine.detokenizer import Progress
from edge_server.engine.observer import EngineObserver
from edge_server.engine.ports import BatchLostError, InvalidPromptError, ModelRunner, StateT, Step
from edge_server.engine.queue import FairQueue
from edge_server.engine.request import FinishReason, Job
from edge_server.errors import (
    DeadlineExpiredError,
    EdgeServerError,
    EngineFailureError,
    InvalidQuestionError,
    QuestionCancelledError,
)

logger = logging.getLogger(__name__)


class Scheduler(Generic[StateT]):
    """One running batch. Several may take from one queue, each on a thread of its own.

    Args:
        runner: what computes.
        eos_id: language token id that ends an answer.
        queue: where questions come from.
        config: bounds.
        clock: monotonic seconds.
        observer: is told what happens.
        tell: takes what each step made: how far questions have come, and one end for each.
    """

    def __init__(
        self,
        runner: ModelRunner[StateT],
        eos_id: int,
        queue: FairQueue,
        config: EngineConfig,
        clock: Callable[[], float],
        observer: EngineObserver,
        tell: Callable[[list[Progress]], None],
    ) -> None:
        self._runner = runner
        self._eos_id = eos_id
        self._queue = queue
        self._config = config
        self._clock = clock
        self._observer = observer
        self._tell = tell
        self._state: StateT | None = None
        self._rows: list[Job] = []
        # Every question taken from the queue and not ended yet; outlives a worker that dies.
        self._taken: dict[Job, None] = {}
        self._suspect: Job | None = None
        self._news: list[Progress] = []
        self._woken = False
        self._decode_steps_since_prefill = 0

    @property
    def rows(self) -> int:
        """Questions in this batch."""
        return len(self._taken)

    def wait(self) -> None:
        """Block until there is something to do, or :meth:`wake` is called."""
        if not self._taken:
            self._queue.wait(lambda: self._woken)
        self._woken = False

    def wake(self) -> None:
        """End a :meth:`wait` that has nothing to wait for."""
        self._woken = True
        self._queue.wake()

    def step(self) -> None:
        """Run one iteration. Errors of the model end in the questions they belong to, never here."""
        self._drop()
        if not self._rows or self._decode_steps_since_prefill >= self._config.decode_steps_between_prefills:
            self._admit()
        if self._rows:
            self._decode()
        self._flush()

    def revive(self) -> None:
        """Take over what a worker that died left behind: its questions are run again."""
        if self._suspect is not None:
            self._end(self._suspect, EngineFailureError("the question ended the worker that ran it"))
            self._suspect = None
        self._recover(list(self._taken))

    def _drop(self) -> None:
        now = self._clock()
        for job in self._queue.remove_expired(now):
            self._end(job, DeadlineExpiredError(job.deadline_s))
        going_on = [row for row, job in enumerate(self._rows) if not self._end_if_dead(job, now)]
        self._keep(going_on)
        self._flush()

    def _admit(self) -> None:
        config = self._config
        positions = config.max_batch_positions - sum(job.reserved for job in self._rows)
        budget = config.max_prefill_positions if self._rows else config.max_batch_positions
        background = sum(job.request.priority == "background" for job in self._rows)
        arrivals: list[Job] = []
        now = self._clock()
        while len(self._rows) + len(arrivals) < config.max_batch and budget > 0:
            job = self._queue.pop(positions, background=background < config.max_background_rows)
            if job is None:
                break
            self._taken[job] = None
            if self._end_if_dead(job, now):
                continue
            job.started_at = now
            positions -= job.reserved
            budget -= job.positions
            background += job.request.priority == "background"
            arrivals.append(job)
        if arrivals:
            self._prefill(arrivals)

    def _prefill(self, arrivals: list[Job]) -> None:
        began = self._clock()
        self._decode_steps_since_prefill = 0
        try:
            state, steps = self._runner.prefill([job.request.prompt for job in arrivals], self._state)
        except BatchLostError as error:
            self._lost(error, [*self._rows, *arrivals])
            return
        except Exception as error:
            logger.warning("a prefill of %d questions failed (%s); each is run alone", len(arrivals), error)
            # The running rows' state is as it was.
            self._run_alone(arrivals)
            return
        running = len(self._rows)
        self._state, self._rows = state, [*self._rows, *arrivals]
        try:
            _check_rows(steps, len(arrivals))
        except Exception as error:
            logger.warning("a prefill went wrong (%s); every row is run again", error)
            self._recover(self._rows)
            return
        self._observer.prefilled(len(arrivals), self._clock() - began)
        going_on = self._absorb(arrivals, steps)
        # First words, and one-word answers, do not wait for the decode step that follows.
        self._flush()
        self._keep([*range(running), *(running + row for row in going_on)])

    def _decode(self) -> None:
        assert self._state is not None  # noqa: S101 (rows and state come and go together)
        rows = self._rows
        self._decode_steps_since_prefill += 1
        began = self._clock()
        try:
            state, steps = self._runner.decode(self._state)
            _check_rows(steps, len(rows))
        except BatchLostError as error:
            self._lost(error, rows)
            return
        except Exception as error:
            logger.warning("a decode step of %d rows failed (%s); each is run alone", len(rows), error)
            self._recover(rows)
            return
        self._observer.decoded(len(rows), self._clock() - began)
        self._state = state
        self._keep(self._absorb(rows, steps))

    def _absorb(self, jobs: Sequence[Job], steps: Sequence[Step]) -> list[int]:
        """Take each row's step to its answer; the rows that go on."""
        self._queue.charge_tokens(jobs)
        return [
            row for row, (job, step) in enumerate(zip(jobs, steps, strict=True)) if self._accept(job, step)
        ]

    def _accept(self, job: Job, step: Step) -> bool:
        """One step of one answer; whether it goes on."""
        if not job.token_ids:
            now = self._clock()
            started_at = now if job.started_at is None else job.started_at
            job.first_token_at = now
            self._observer.first_token(started_at - job.submitted_at, now - job.submitted_at)
        if not (math.isfinite(step.probability) and 0.0 <= step.probability <= 1.0 + 1e-6):
            self._end(job, EngineFailureError(f"the model gave a probability of {step.probability}"))
            return False
        if step.token_id == self._eos_id:
            self._end(job, "stop")
            return False
        job.token_ids.append(step.token_id)
        job.probability *= min(step.probability, 1.0)
        if len(job.token_ids) >= job.max_new_tokens:
            self._end(job, "length")
            return False
        if not job.request.whole:
            self._news.append(Progress(job, len(job.token_ids), None, 0.0))
        return True

    def _end_if_dead(self, job: Job, now: float) -> bool:
        if job.cancelled or job.told:
            self._end(job, QuestionCancelledError())
        elif job.deadline_at <= now:
            self._end(job, DeadlineExpiredError(job.deadline_s))
        else:
            return False
        return True

    def _end(self, job: Job, how: FinishReason | EdgeServerError) -> None:
        if job in self._taken:
            del self._taken[job]
            self._queue.release(job)
        self._news.append(Progress(job, len(job.token_ids), how, self._clock()))

    def _flush(self) -> None:
        if self._news:
            # In this order: what is handed over twice, because a worker died in between, is told once.
            self._tell(self._news)
            self._news = []

    def _keep(self, rows: Sequence[int]) -> None:
        """Only these rows go on; the others have ended."""
        if len(rows) == len(self._rows):
            return
        survivors = [self._rows[row] for row in rows]
        assert self._state is not None  # noqa: S101 (rows and state come and go together)
        try:
            self._state = self._runner.keep(self._state, rows)
            self._rows = survivors
        except BatchLostError as error:
            self._lost(error, survivors)
        except Exception as error:
            logger.warning("leaving the batch failed (%s); every row is run again", error)
            self._recover(survivors)

    def _join(self, state: StateT, jobs: list[Job]) -> None:
        self._state = state if self._state is None else self._runner.merge(self._state, state)
        self._rows = [*self._rows, *jobs]

    def _lost(self, error: BatchLostError, jobs: Sequence[Job]) -> None:
        logger.error("a batch was lost (%s); its %d questions are run again", error, len(jobs))
        self._observer.worker_replaced()
        self._recover(jobs)

    def _recover(self, jobs: Sequence[Job]) -> None:
        """Build the batch again, each row alone from its prompt; those at fault fail on the way."""
        self._state, self._rows = None, []
        innocent: list[Job] = []
        for job in jobs:
            job.recoveries += 1
            if job.recoveries > self._config.max_recoveries:
                self._end(job, EngineFailureError("the batch failed again and again; ask once more"))
            else:
                innocent.append(job)
        self._run_alone(innocent)

    def _run_alone(self, jobs: Sequence[Job]) -> None:
        for number, job in enumerate(jobs):
            if self._end_if_dead(job, self._clock()):
                continue
            self._suspect = job
            try:
                state, step = self._replay(job)
                if self._accept(job, step):
                    self._join(state, [job])
            except BatchLostError as error:
                # Those that had joined again are lost once more; this one goes, so that it comes to an end.
                logger.error("question %r was run alone when the batch was lost", job.request.request_id)
                self._observer.worker_replaced()
                self._end(job, EngineFailureError(f"the batch was lost while this question was run: {error}"))
                self._suspect = None
                joined, self._state, self._rows = self._rows, None, []
                self._run_alone([*joined, *jobs[number + 1 :]])
                return
            except InvalidPromptError as error:
                self._end(job, InvalidQuestionError(error.field, str(error)))
            except EdgeServerError as error:
                self._end(job, error)
            except Exception as error:
                logger.exception("question %r failed", job.request.request_id)
                self._end(job, EngineFailureError(f"the model failed on this question: {error}"))
            self._suspect = None
            self._flush()

    def _replay(self, job: Job) -> tuple[StateT, Step]:
        """Run a question alone up to its first step that is new.

        Raises:
            EngineFailureError: it came out differently this time, and some of it has been said already.
        """
        state, steps = self._runner.prefill([job.request.prompt])
        _check_rows(steps, 1)
        for token_id in job.token_ids:
            if steps[0].token_id != token_id:
                raise EngineFailureError("the answer was cut off by a failure of the batch; ask once more")
            state, steps = self._runner.decode(state)
            _check_rows(steps, 1)
        return state, steps[0]


def _check_rows(steps: Sequence[Step], rows: int) -> None:
    if len(steps) != rows:
        raise RuntimeError(f"the model made {len(steps)} steps for {rows} rows")
