"""Turns the language tokens of answers into text, on a thread of its own.

    Scheduler ──Progress──▶ (short bounded queue) ──▶ Detokenizer ──Publication──▶ event loop

The worker that runs the model does not wait for a tokenizer: while it computes the next step, the last one's
language tokens become text here. A question whose tokens spell no text fails here, alone.

No threads in here either: :class:`Detokenizer` is driven by a worker thread, or by a test. It outlives a
thread that dies on it: the question it died on fails, the others are told.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from edge_server.engine.request import Completion, Delta, Event, FinishReason, Job, JobState
from edge_server.errors import EdgeServerError, EngineFailureError

logger = logging.getLogger(__name__)

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"
LOGPROB_OF_0 = -9999.0
"""Stands for minus infinity, which JSON has no number for; OpenAI's choice."""
# Steps that may wait to be told. More would only hide that text takes longer than the model.
_STEPS_AHEAD = 4

Publication: TypeAlias = tuple[Job, Event | EdgeServerError]
Publish: TypeAlias = Callable[[list[Publication]], None]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a question has come.

    Attributes:
        job: the question.
        tokens: how many of its language tokens there are.
        end: how it ended; None: it goes on.
        at: when, on the engine's clock [s].
    """

    job: Job
    tokens: int
    end: FinishReason | EdgeServerError | None
    at: float


class Detokenizer:
    """Makes publications of progress. Threads of running batches put, one other is driven through it.

    Args:
        text: decoder of language token ids.
        publish: takes what each step of the model said, in order, with one end per question.
    """

    def __init__(self, text: Callable[[Sequence[int]], str], publish: Publish) -> None:
        self._text = text
        self._publish = publish
        self._changed = threading.Condition()
        self._steps: deque[list[Progress]] = deque()
        self._open = True
        self._woken = False
        # Of the first step in the queue: what is said already, and the question that is being worked on.
        self._said: list[Publication] = []
        self._done = 0
        self._suspect: Job | None = None

    def put(self, step: list[Progress]) -> None:
        """Hand over what one step made; waits while several are to be told."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._steps) < _STEPS_AHEAD or not self._open)
            self._steps.append(step)
            self._changed.notify_all()

    def close(self) -> None:
        """Let nobody wait to hand over any more: nobody listens."""
        with self._changed:
            self._open = False
            self._changed.notify_all()

    def wait(self) -> None:
        """Block until there is something to tell, or :meth:`wake` is called."""
        with self._changed:
            self._changed.wait_for(lambda: self._steps or self._woken)
            self._woken = False

    def wake(self) -> None:
        """End a :meth:`wait` that has nothing to wait for."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def step(self) -> None:
        """Tell what the oldest step said, if there is one."""
        with self._changed:
            if not self._steps:
                return
            progress = self._steps[0]
        while self._done < len(progress):
            self._suspect = progress[self._done].job
            self._said += self._tell(progress[self._done])
            self._suspect = None
            self._done += 1
        self._publish(self._said)
        self._said, self._done = [], 0
        with self._changed:
            self._steps.popleft()
            self._changed.notify_all()

    def revive(self) -> None:
        """Take over from a thread that died: the question that it died on fails."""
        job, self._suspect = self._suspect, None
        if job is not None:
            self._done += 1
            self._said += _end(job, EngineFailureError("the question ended the thread that told its answer"))

    def _tell(self, progress: Progress) -> list[Publication]:
        job, end = progress.job, progress.end
        if job.state is JobState.TOLD:
            return []
        if isinstance(end, EdgeServerError):
            return _end(job, end)
        try:
            ids = job.token_ids[: progress.tokens]
            delta = stable_delta(self._text, ids, job.emitted, last=end is not None)
        except Exception as error:
            logger.warning("question %r: its tokens spell no text (%s)", job.request.request_id, error)
            return _end(job, EngineFailureError(f"the answer's tokens spell no text: {error}"))
        said: list[Publication] = []
        if delta:
            job.emitted += delta
            said.append((job, Delta(delta)))
        if end is not None:
            said += _end(job, _completion(progress, end))
        return said


def _end(job: Job, how: Completion | EdgeServerError) -> list[Publication]:
    return [(job, how)] if job.advance(JobState.TOLD) else []


def _completion(progress: Progress, finish_reason: FinishReason) -> Completion:
    job, now = progress.job, progress.at
    probabilities = job.probabilities[: progress.tokens]
    started_at = now if job.started_at is None else job.started_at
    first_token_at = now if job.first_token_at is None else job.first_token_at
    return Completion(
        text=job.emitted,
        probability=math.prod(probabilities),
        prompt_tokens=job.positions,
        answer_tokens=progress.tokens,
        queue_s=started_at - job.submitted_at,
        compute_s=now - started_at,
        finish_reason=finish_reason,
        first_token_s=first_token_at - job.submitted_at,
        logprobs=tuple(map(_log, probabilities)),
    )


def _log(probability: float) -> float:
    return math.log(probability) if probability > 0.0 else LOGPROB_OF_0


def stable_delta(
    text: Callable[[Sequence[int]], str], token_ids: Sequence[int], emitted: str, *, last: bool
) -> str:
    """What can be said beyond ``emitted``: text that never has to be taken back.

    Until the last token, what may still change is held back: bytes that do not make a character yet
    (decoders show them as U+FFFD) and white space, which some decoders drop before punctuation.

    Args:
        text: decoder of whole id lists.
        token_ids: all ids so far.
        emitted: all text said so far.
        last: whether no further ids will come.

    Returns:
        The further text; empty where nothing more is certain. If the decoder changed what it said
        before, nothing until the last token, and then nothing either: what was said stays said.
    """
    full = text(token_ids)
    if not last:
        full = full.rstrip(_UNFINISHED).rstrip()
    return full[len(emitted) :] if full.startswith(emitted) else ""
