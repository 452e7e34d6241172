"""A question in the engine: the request, the events of its answer, the job that goes through the batch.

Front doors make a :class:`Request`; the engine makes a :class:`Job` of it, whose life is a :class:`JobState`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from threading import Lock
from typing import Literal, TypeAlias

from edge_server.engine.ports import Prompt, Step

FinishReason: TypeAlias = Literal["stop", "length"]
LOGPROB_OF_0 = -9999.0
"""Stands for minus infinity, which JSON has no number for; OpenAI's choice."""
Priority: TypeAlias = Literal["interactive", "background"]
"""Whether somebody waits for the answer. Background questions get a small share while both are there."""


@dataclass(frozen=True, slots=True)
class AskedAs:
    """What a question that may be asked again is known by, wherever that happens.

    Attributes:
        device_id: who asks.
        request_id: its key, of the device's choice.
        digest: of its content.
    """

    device_id: str
    request_id: str
    digest: bytes


@dataclass(frozen=True)
class Request:
    """One question for the engine.

    Attributes:
        prompt: what the model is asked.
        user: whom it counts for; users share the engine fairly.
        max_new_tokens: most language tokens of the answer; 0: the engine's default.
        deadline_s: seconds from now within which an answer is of use; 0: the engine's default.
        request_id: for log lines; the engine does not need it to be unique.
        priority: its class; fairness between users holds inside each.
        whole: the answer is wanted in one piece: nothing is told before its end.
        stop: texts that end the answer; it is told up to the first of them.
        tokens: the answer's language tokens are told with its text.
        asked_as: what it is known by, where its device may ask it again elsewhere; None: nobody does.
        traceparent: W3C Trace Context of its span, for whoever runs it elsewhere; empty: it is not traced.
    """

    prompt: Prompt
    user: str
    max_new_tokens: int = 0
    deadline_s: float = 0.0
    request_id: str = ""
    priority: Priority = "interactive"
    whole: bool = False
    stop: tuple[str, ...] = ()
    tokens: bool = False
    asked_as: AskedAs | None = None
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Token:
    """A language token of an answer.

    Attributes:
        token_id: the token.
        logprob: natural logarithm of the probability that the model gave to it.
        alternatives: the likeliest tokens in its place, with their log-probabilities, where they are asked
            for.
    """

    token_id: int
    logprob: float
    alternatives: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Delta:
    """A further piece of an answer.

    Attributes:
        text: all of them joined are :attr:`Completion.text`.
        tokens: language tokens whose text has been told with it, where they are asked for; all of them joined
            are :attr:`Completion.tokens`.
    """

    text: str
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True)
class Completion:
    """A whole answer.

    Attributes:
        text: the answer.
        probability: product of the probabilities of its language tokens.
        prompt_tokens: positions that the question took in the model's context.
        answer_tokens: language tokens of the answer, the end token not counted.
        queue_s: time from submission to the start of its prefill [s].
        compute_s: time from there to its end [s].
        finish_reason: ``"stop"``: the model ended it, or one of the question's texts did; ``"length"``:
            max_new_tokens was reached.
        first_token_s: time from submission to its first language token [s].
        logprobs: of each language token, natural logarithm of the probability that the model gave to it;
            empty where that is not known.
        tokens: those whose text the answer holds, where they are asked for.
        confidence: probability that the answer is right, calibrated; of one that was held back, that of
            :attr:`guess`; None where nothing is known of it.
        abstained: whether the answer is that the model is not sure.
        guess: the answer that was held back; empty where none was.
    """

    text: str
    probability: float
    prompt_tokens: int
    answer_tokens: int
    queue_s: float
    compute_s: float
    finish_reason: FinishReason
    first_token_s: float = 0.0
    logprobs: tuple[float, ...] = ()
    tokens: tuple[Token, ...] = ()
    confidence: float | None = None
    abstained: bool = False
    guess: str = ""

    @property
    def logprob(self) -> float:
        """Natural logarithm of :attr:`probability`, as precise for an answer of any length."""
        if self.logprobs:
            return max(sum(self.logprobs), LOGPROB_OF_0)
        return math.log(self.probability) if self.probability > 0.0 else LOGPROB_OF_0


Event: TypeAlias = Delta | Completion


class JobState(IntEnum):
    """Where a question is in its life. It only ever advances.

    WAITING ──▶ RUNNING ──▶ TOLD
       └───────────┴──▶ CANCELLED ──▶ TOLD
    """

    WAITING = 0
    """In the queue, for the first time."""
    RUNNING = 1
    """Taken into a batch; it may wait again where that batch has lost its runner."""
    CANCELLED = 2
    """Nobody waits for its answer any more; its row is freed at the next step."""
    TOLD = 3
    """Its end has been said."""


_ADVANCING = Lock()
"""Three threads advance states, each a few times in a question's life: one lock serves all."""


class Job:
    """A question inside the engine. Made on the event loop, worked on by the worker thread.

    While it runs the detokenizer's thread writes ``emitted`` and ``told_tokens``. The loop, the worker and
    the detokenizer each :meth:`advance` its state. Everything else is the worker's.
    """

    __slots__ = (
        "deadline_at",
        "deadline_s",
        "emitted",
        "first_token_at",
        "max_new_tokens",
        "positions",
        "recoveries",
        "request",
        "started_at",
        "state",
        "steps",
        "submitted_at",
        "token_ids",
        "told_tokens",
    )

    def __init__(
        self, request: Request, *, positions: int, max_new_tokens: int, deadline_s: float, now: float
    ) -> None:
        self.request = request
        self.positions = positions
        self.max_new_tokens = max_new_tokens
        self.deadline_s = deadline_s
        self.submitted_at = now
        self.deadline_at = now + deadline_s
        self.started_at: float | None = None
        self.first_token_at: float | None = None
        self.token_ids: list[int] = []
        self.steps: list[Step] = []
        self.emitted = ""
        self.told_tokens = 0
        self.recoveries = 0
        self.state = JobState.WAITING

    def advance(self, state: JobState) -> bool:
        """Go on to a later state; False where it is there, or further, already. From any thread."""
        with _ADVANCING:
            if state <= self.state:
                return False
            self.state = state
            return True

    def forget_from(self, tokens: int) -> None:
        """Begin the answer anew behind so many language tokens; nothing of it may have been told."""
        del self.token_ids[tokens:], self.steps[tokens:]

    @property
    def reserved(self) -> int:
        """Context positions that it may take until its end."""
        return self.positions + self.max_new_tokens
