"""What becomes of a batch when its runner fails: each question is run again alone; who is at fault fails.

    runner raised ──▶ batch cleared ──▶ a question alone, from its prompt up to where it was ──▶ joins again
                                          │ raises: it is at fault, and ends with the error
                                          │ loses the batch: it ends, those that had joined are run again
                                          └ no runner to be had: all wait in the queue for another batch

Decoding is repeatable, sampled or not: an answer that was cut goes on where it stopped. Arithmetic differs by
a hair where a row is alone, so that once in a while one does not; what was told of it is then worth nothing.
Called by the scheduler, on its thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Generic

from edge_server.engine.batch import Batch, check_rows
from edge_server.engine.observer import EngineObserver
from edge_server.engine.ports import (
    BatchLostError,
    InvalidPromptError,
    ModelRunner,
    RunnerUnavailableError,
    StateT,
    Step,
)
from edge_server.engine.progress import BatchProgress
from edge_server.engine.request import Job
from edge_server.errors import EdgeServerError, EngineFailureError, InvalidQuestionError

logger = logging.getLogger(__name__)


class Recovery(Generic[StateT]):
    """Builds a batch again.

    Args:
        runner: what computes.
        batch: what is built again.
        progress: of its questions.
        max_recoveries: how often a question is run again after failures that were not its own.
        clock: monotonic seconds.
        observer: is told of batches that were lost.
    """

    def __init__(
        self,
        runner: ModelRunner[StateT],
        batch: Batch[StateT],
        progress: BatchProgress,
        max_recoveries: int,
        clock: Callable[[], float],
        observer: EngineObserver,
    ) -> None:
        self._runner = runner
        self._batch = batch
        self._progress = progress
        self._max_recoveries = max_recoveries
        self._clock = clock
        self._observer = observer
        # Run alone right now: if the thread dies, it died on this one.
        self._suspect: Job | None = None

    def after_death(self) -> None:
        """Take over what a dead thread left: the question it died on fails, the others are run again."""
        if self._suspect is not None:
            self._progress.end(self._suspect, EngineFailureError("the question ended the worker that ran it"))
            self._suspect = None
        self.rerun(list(self._progress.taken))

    def after_loss(self, error: BatchLostError, jobs: Sequence[Job]) -> None:
        """Run questions again whose batch the runner has lost."""
        if not isinstance(error, RunnerUnavailableError):
            logger.error("a batch was lost (%s); its %d questions are run again", error, len(jobs))
            self._observer.worker_replaced()
        self.rerun(jobs)

    def rerun(self, jobs: Sequence[Job]) -> None:
        """Build the batch again out of these questions, which have failed together."""
        self._batch.clear()
        innocent: list[Job] = []
        for job in jobs:
            job.recoveries += 1
            if job.recoveries > self._max_recoveries:
                error = EngineFailureError("the batch failed again and again; ask once more")
                self._progress.end(job, error)
            else:
                innocent.append(job)
        self.run_alone(innocent)

    def run_alone(self, jobs: Sequence[Job]) -> None:
        """Run each question alone up to its first step that is new; those that can go on join the batch."""
        for number, job in enumerate(jobs):
            if self._progress.end_if_dead(job, self._clock()):
                continue
            self._suspect = job
            try:
                state, step = self._replay(job)
                if self._progress.accept(job, step):
                    self._batch.join(state, job)
            except RunnerUnavailableError:
                self._suspect = None
                self.hand_back([*self._batch.clear(), *jobs[number:]])
                return
            except BatchLostError as error:
                # Those that had joined again are lost once more; this one goes, so that it comes to an end.
                logger.error("question %r was run alone when the batch was lost", job.request.request_id)
                self._observer.worker_replaced()
                lost = EngineFailureError(f"the batch was lost while this question was run: {error}")
                self._progress.end(job, lost)
                self._suspect = None
                self.run_alone([*self._batch.clear(), *jobs[number + 1 :]])
                return
            except InvalidPromptError as error:
                self._progress.end(job, InvalidQuestionError(error.field, str(error)))
            except EdgeServerError as error:
                self._progress.end(job, error)
            except Exception as error:
                logger.exception("question %r failed", job.request.request_id)
                self._progress.end(job, EngineFailureError(f"the model failed on this question: {error}"))
            self._suspect = None
            self._progress.flush()

    def hand_back(self, jobs: Sequence[Job]) -> None:
        """Let questions wait in the queue again: there is no runner to be had here."""
        for job in jobs:
            if not self._progress.end_if_dead(job, self._clock()):
                self._progress.hand_back(job)
        self._progress.flush()

    def _replay(self, job: Job) -> tuple[StateT, Step]:
        """Run a question alone up to its first step that is new.

        One that is wanted whole begins anew where it comes out differently this time: nobody has heard of it.

        Raises:
            EngineFailureError: it came out differently, and some of it has been said already.
        """
        state, steps = self._runner.prefill([job.request.prompt])
        check_rows(steps, 1)
        for number, token_id in enumerate(job.token_ids):
            if steps[0].token_id != token_id:
                if job.request.whole and not job.request.stop:
                    job.forget_from(number)
                    break
                raise EngineFailureError("the answer was cut off by a failure of the batch; ask once more")
            state, steps = self._runner.decode(state)
            check_rows(steps, 1)
        return state, steps[0]
