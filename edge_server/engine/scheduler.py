"""One iteration of the batch: questions leave and join between decode steps.

    drop ──▶ admit ──▶ prefill ──▶ decode ──▶ tell
     ▲  cancelled, expired: before they cost compute  │
     └────────────────────────────────────────────────┘

A step reads no more prompts than :attr:`EngineConfig.max_prefill_positions` while rows wait for their next
token: what a step takes, and with it the gap between two tokens of an answer, is bounded. To read even one
prompt takes longer than a token, so that after a prefill some tokens are told before the next: who comes
meanwhile waits a little, and is read together with others.

No threads, no event loop in here: :class:`Scheduler` is driven by a worker thread, or by a test. What happens
when the runner raises is :mod:`edge_server.engine.recovery`'s business; while there is no runner to be had,
nothing is taken from the queue, which other batches take from.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Generic

from edge_server.engine.batch import Batch
from edge_server.engine.config import EngineConfig
from edge_server.engine.detokenizer import Progress
from edge_server.engine.observer import EngineObserver
from edge_server.engine.ports import BatchLostError, GivesWay, ModelRunner, Restartable, StateT
from edge_server.engine.progress import BatchProgress
from edge_server.engine.queue import FairQueue
from edge_server.engine.recovery import Recovery
from edge_server.engine.request import Job, JobState
from edge_server.errors import DeadlineExpiredError

logger = logging.getLogger(__name__)

_LOOK_FOR_RUNNER_S = 0.25
_LOOK_AT_RUNNER_S = 1.0


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
        self._restartable = runner if isinstance(runner, Restartable) else None
        # With one batch, an interactive question would wait for a step that gives way to everything.
        self._gives_way = runner if isinstance(runner, GivesWay) and config.batches > 1 else None
        self._queue = queue
        self._config = config
        self._clock = clock
        self._observer = observer
        self._batch = Batch(runner)
        self._progress = BatchProgress(eos_id, queue, clock, observer, tell)
        self._recovery = Recovery(runner, self._batch, self._progress, config.max_recoveries, clock, observer)
        self._woken = False
        self._available = True
        self._decode_steps_since_prefill = 0

    @property
    def rows(self) -> int:
        """Questions in this batch."""
        return len(self._progress.taken)

    @property
    def available(self) -> bool:
        """Whether there is a runner to be had."""
        return self._available

    def wait(self) -> None:
        """Block until there is something to do, or :meth:`wake` is called."""
        if not self._available:
            self._queue.pause(lambda: self._woken, _LOOK_FOR_RUNNER_S)
        elif not self._progress.taken:
            # A runner that dies while nobody asks is there again before somebody does.
            self._queue.wait(lambda: self._woken, None if self._restartable is None else _LOOK_AT_RUNNER_S)
        self._woken = False

    def wake(self) -> None:
        """End a :meth:`wait` that has nothing to wait for."""
        self._woken = True
        self._queue.wake()

    def step(self) -> None:
        """Run one iteration. Errors of the model end in the questions they belong to, never here."""
        self._drop()
        if not self._find_runner():
            return
        if not self._batch.rows or self._may_prefill():
            fresh, begun = self._admit()
            if fresh:
                self._prefill(fresh)
            if begun:
                self._recovery.run_alone(begun)
        if self._batch.rows:
            self._decode()
        self._progress.flush()

    def revive(self) -> None:
        """Take over what a worker that died left behind: its questions are run again."""
        self._recovery.after_death()

    def _drop(self) -> None:
        now = self._clock()
        for job in self._queue.remove_expired(now):
            self._progress.end(job, DeadlineExpiredError(job.deadline_s))
        rows = self._batch.rows
        self._keep([row for row, job in enumerate(rows) if not self._progress.end_if_dead(job, now)])
        self._progress.flush()

    def _find_runner(self) -> bool:
        """Whether the runner computes; where it does not, its questions wait for another batch."""
        if self._restartable is not None:
            # Known before it is started again, which takes time: meanwhile others do what it had begun.
            self._available = self._restartable.started
            if not self._available and self._progress.taken:
                self._batch.clear()
                self._recovery.hand_back(list(self._progress.taken))
            self._available = self._restartable.ensure_started()
        return self._available

    def _may_prefill(self) -> bool:
        return self._decode_steps_since_prefill >= self._config.decode_steps_between_prefills

    def _admit(self) -> tuple[list[Job], list[Job]]:
        """Take questions from the queue, as many as fit: new ones, and those that another batch began."""
        config, rows = self._config, self._batch.rows
        positions = config.max_batch_positions - sum(job.reserved for job in rows)
        budget = config.max_prefill_positions if rows else config.max_batch_positions
        background = sum(job.request.priority == "background" for job in rows)
        arrivals: list[Job] = []
        now = self._clock()
        while len(rows) + len(arrivals) < config.max_batch and budget > 0:
            job = self._queue.pop(positions, background=background < config.max_background_rows)
            if job is None:
                break
            self._progress.taken[job] = None
            if self._progress.end_if_dead(job, now):
                continue
            job.advance(JobState.RUNNING)
            job.started_at = now
            positions -= job.reserved
            budget -= job.positions
            background += job.request.priority == "background"
            arrivals.append(job)
        fresh = [job for job in arrivals if not job.token_ids]
        return fresh, [job for job in arrivals if job.token_ids]

    def _prefill(self, arrivals: list[Job]) -> None:
        began, running = self._clock(), len(self._batch.rows)
        self._decode_steps_since_prefill = 0
        self._give_way([*self._batch.rows, *arrivals])
        try:
            steps = self._batch.prefill(arrivals)
        except BatchLostError as error:
            self._recovery.after_loss(error, [*self._batch.rows[:running], *arrivals])
            return
        except Exception as error:
            if len(self._batch.rows) > running:
                logger.warning("a prefill went wrong (%s); every row is run again", error)
                self._recovery.rerun(self._batch.rows)
            else:  # the running rows' state is as it was
                logger.warning(
                    "a prefill of %d questions failed (%s); each is run alone", len(arrivals), error
                )
                self._recovery.run_alone(arrivals)
            return
        self._observer.prefilled(len(arrivals), self._clock() - began)
        going_on = self._progress.absorb(arrivals, steps)
        # First tokens, and answers of one, do not wait for the decode step that follows.
        self._progress.flush()
        self._keep([*range(running), *(running + row for row in going_on)])

    def _decode(self) -> None:
        began, rows = self._clock(), self._batch.rows
        self._decode_steps_since_prefill += 1
        self._give_way(rows)
        try:
            steps = self._batch.decode()
        except BatchLostError as error:
            self._recovery.after_loss(error, rows)
            return
        except Exception as error:
            logger.warning("a decode step of %d rows failed (%s); each is run alone", len(rows), error)
            self._recovery.rerun(rows)
            return
        self._observer.decoded(len(rows), self._clock() - began)
        self._keep(self._progress.absorb(rows, steps))

    def _give_way(self, jobs: Sequence[Job]) -> None:
        """Let a step that nobody waits for have what those leave that somebody waits for."""
        if self._gives_way is not None:
            nobody_waits = all(job.request.priority == "background" for job in jobs)
            self._gives_way.give_way(nobody_waits and self._queue.asked_interactively)

    def _keep(self, rows: Sequence[int]) -> None:
        """Only these rows go on; the others have ended."""
        survivors = [self._batch.rows[row] for row in rows]
        try:
            self._batch.keep(rows)
        except BatchLostError as error:
            self._recovery.after_loss(error, survivors)
        except Exception as error:
            logger.warning("leaving the batch failed (%s); every row is run again", error)
            self._recovery.rerun(survivors)
