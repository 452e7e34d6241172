"""Takes each decode step to the answers of a batch, and ends questions.

Owned by a scheduler. Every question that was taken from the queue ends here exactly once; what is news is
handed to the detokenizer when the scheduler flushes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from edge_server.engine.detokenizer import Progress
from edge_server.engine.observer import EngineObserver
from edge_server.engine.ports import Step
from edge_server.engine.queue import FairQueue
from edge_server.engine.request import FinishReason, Job, JobState
from edge_server.errors import (
    DeadlineExpiredError,
    EdgeServerError,
    EngineFailureError,
    QuestionCancelledError,
)


class BatchProgress:
    """Takes steps to the answers they belong to.

    Args:
        eos_id: language token id that ends an answer.
        queue: where questions were taken from; is told of tokens and ends.
        clock: monotonic seconds.
        observer: is told of first tokens.
        tell: takes the news.
    """

    def __init__(
        self,
        eos_id: int,
        queue: FairQueue,
        clock: Callable[[], float],
        observer: EngineObserver,
        tell: Callable[[list[Progress]], None],
    ) -> None:
        self._eos_id = eos_id
        self._queue = queue
        self._clock = clock
        self._observer = observer
        self._tell = tell
        self._news: list[Progress] = []
        #: Questions taken from the queue that have not ended; outlives a worker that dies.
        self.taken: dict[Job, None] = {}

    def absorb(self, jobs: Sequence[Job], steps: Sequence[Step]) -> list[int]:
        """Take each row's step to its answer; the rows that go on."""
        self._queue.charge_tokens(jobs)
        return [
            row for row, (job, step) in enumerate(zip(jobs, steps, strict=True)) if self.accept(job, step)
        ]

    def accept(self, job: Job, step: Step) -> bool:
        """Take one step to one answer; whether it goes on."""
        if not job.token_ids:
            now = self._clock()
            started_at = now if job.started_at is None else job.started_at
            job.first_token_at = now
            self._observer.first_token(started_at - job.submitted_at, now - job.submitted_at)
        if not (math.isfinite(step.probability) and 0.0 <= step.probability <= 1.0 + 1e-6):
            self.end(job, EngineFailureError(f"the model gave a probability of {step.probability}"))
            return False
        if step.token_id == self._eos_id:
            self.end(job, "stop")
            return False
        job.token_ids.append(step.token_id)
        job.steps.append(step)
        if len(job.token_ids) >= job.max_new_tokens:
            self.end(job, "length")
            return False
        if not job.request.whole or job.request.stop:
            self._news.append(Progress(job, len(job.token_ids), None, 0.0))
        return True

    def end_if_dead(self, job: Job, now: float) -> bool:
        """End a question that nobody waits for any more; whether it was one."""
        if job.state >= JobState.CANCELLED:
            self.end(job, QuestionCancelledError())
        elif job.deadline_at <= now:
            self.end(job, DeadlineExpiredError(job.deadline_s))
        else:
            return False
        return True

    def end(self, job: Job, how: FinishReason | EdgeServerError) -> None:
        """End a question."""
        if job in self.taken:
            del self.taken[job]
            self._queue.release(job)
        self._news.append(Progress(job, len(job.token_ids), how, self._clock()))

    def hand_back(self, job: Job) -> None:
        """Let a question wait in the queue again: another batch will take it."""
        if job in self.taken:
            del self.taken[job]
            self._queue.put_back(job)

    def flush(self) -> None:
        """Hand the news over."""
        if self._news:
            # In this order: what is handed over twice, because a worker died in between, is told once.
            self._tell(self._news)
            self._news = []
