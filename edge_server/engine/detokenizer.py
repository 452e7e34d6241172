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
from dataclasses import dataclass, replace
from typing import TypeAlias

from edge_server.engine.calibration import Calibration
from edge_server.engine.ports import Step
from edge_server.engine.request import (
    LOGPROB_OF_0,
    Completion,
    Delta,
    Event,
    FinishReason,
    Job,
    JobState,
    Token,
)
from edge_server.errors import EdgeServerError, EngineFailureError

logger = logging.getLogger(__name__)

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"
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
        calibration: says which answers are held back. Nothing is told of an answer while that may happen.
    """

    def __init__(
        self,
        text: Callable[[Sequence[int]], str],
        publish: Publish,
        calibration: Calibration | None = None,
    ) -> None:
        self._text = text
        self._publish = publish
        self._calibration = calibration
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
        request, calibration = job.request, self._calibration
        if calibration is not None and calibration.media_only and not request.prompt.blocks:
            calibration = None
        if calibration is not None and end is None and progress.tokens <= calibration.longest:
            return []
        try:
            ids = job.token_ids[: progress.tokens]
            delta, stopped = stable_delta(
                self._text,
                ids,
                job.emitted,
                last=end is not None,
                cut=end == "length",
                stop=request.stop,
            )
            ends = stopped or end is not None
            told = job.told_tokens
            if request.tokens and (delta or ends):
                whole = end is not None and not stopped
                told = len(ids) if whole else self._spelled(ids, job.emitted + delta, told)
        except Exception as error:
            logger.warning("question %r: its tokens spell no text (%s)", request.request_id, error)
            return _end(job, EngineFailureError(f"the answer's tokens spell no text: {error}"))
        tokens = tuple(map(_token, job.steps[job.told_tokens : told]))
        job.emitted += delta
        job.told_tokens = told
        if request.whole:
            # Looked at before its end for a text that ends it, and told all at once.
            delta, tokens = (job.emitted, tuple(map(_token, job.steps[:told]))) if ends else ("", ())
        said: list[Publication] = []
        if delta or tokens:
            said.append((job, Delta(delta, tokens)))
        if ends:
            reason = "stop" if stopped or end is None else end
            completion = _completion(progress, reason)
            if calibration is not None:
                doubt = job.steps[0].doubt if job.steps else 0.0
                completion = _judged(completion, calibration, doubt)
                if completion.guess:
                    said = [(job, Delta(completion.text))]
            said += _end(job, completion)
        return said

    def _spelled(self, ids: Sequence[int], emitted: str, told: int) -> int:
        """How many language tokens a text holds whole: none that a text which ends the answer begins in."""
        before = told
        while told < len(ids) and len(self._text(ids[: told + 1])) <= len(emitted):
            told += 1
        # White space at an end has no text yet.
        while told > before and len(self._text(ids[: told - 1])) == len(self._text(ids[:told])):
            told -= 1
        return told


def _end(job: Job, how: Completion | EdgeServerError) -> list[Publication]:
    return [(job, how)] if job.advance(JobState.TOLD) else []


def _judged(completion: Completion, calibration: Calibration, doubt: float) -> Completion:
    """An answer with how far it is to be believed; one that is held back was not begun to be told."""
    found = calibration.judge(completion.text, completion.logprobs, doubt)
    completion = replace(completion, confidence=found.confidence, abstained=found.abstained)
    if not found.abstained or calibration.is_unsure(completion.text):
        return completion
    # The language tokens are those of the guess.
    return replace(completion, text=calibration.unsure, guess=completion.text, logprobs=(), tokens=())


def _completion(progress: Progress, finish_reason: FinishReason) -> Completion:
    job = progress.job
    now, steps = progress.at, job.steps[: progress.tokens]
    started_at = now if job.started_at is None else job.started_at
    first_token_at = now if job.first_token_at is None else job.first_token_at
    return Completion(
        text=job.emitted,
        probability=math.prod(min(step.probability, 1.0) for step in steps),
        prompt_tokens=job.positions,
        answer_tokens=progress.tokens,
        queue_s=started_at - job.submitted_at,
        compute_s=now - started_at,
        finish_reason=finish_reason,
        first_token_s=first_token_at - job.submitted_at,
        logprobs=tuple(_log(step.probability) for step in steps),
        tokens=tuple(map(_token, steps[: job.told_tokens])) if job.request.tokens else (),
    )


def _log(probability: float) -> float:
    return math.log(min(probability, 1.0)) if probability > 0.0 else LOGPROB_OF_0


def _token(step: Step) -> Token:
    alternatives = tuple((id_, max(logprob, LOGPROB_OF_0)) for id_, logprob in step.alternatives)
    return Token(step.token_id, _log(step.probability), alternatives)


def stable_delta(
    text: Callable[[Sequence[int]], str],
    token_ids: Sequence[int],
    emitted: str,
    *,
    last: bool,
    cut: bool = False,
    stop: Sequence[str] = (),
) -> tuple[str, bool]:
    """What can be said beyond ``emitted``: text that never has to be taken back.

    Until the last token, what may still change is held back: bytes that do not make a character yet
    (decoders show them as U+FFFD), white space, which some decoders drop before punctuation, and what may be
    the beginning of a text that ends the answer.

    Args:
        text: decoder of whole id lists.
        token_ids: all ids so far.
        emitted: all text said so far.
        last: whether no further ids will come.
        cut: whether that is for want of room: half of a character at the end is none then.
        stop: texts that end the answer.

    Returns:
        The further text, and whether one of ``stop`` ends the answer there. The text is empty where nothing
        more is certain. If the decoder changed what it said before, nothing until the last token, and then
        nothing either: what was said stays said.
    """
    full = text(token_ids)
    if not full.startswith(emitted):
        return "", False
    # None begins before: what might be a beginning was held back.
    found = [at for each in stop if (at := full.find(each, len(emitted))) >= 0]
    if found:
        return full[len(emitted) : min(found)], True
    if cut:
        full = full.rstrip(_UNFINISHED)
    elif not last:
        full = full.rstrip(_UNFINISHED).rstrip()
        full = full[: len(full) - _may_begin(full, stop)]
    return full[len(emitted) :], False


def _may_begin(text: str, stop: Sequence[str]) -> int:
    """Length of the longest end of a text that one of ``stop`` begins with."""
    longest = max(map(len, stop), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(each.startswith(text[-length:]) for each in stop):
            return length
    return 0
