"""The way into an engine, wherever it computes: what is accepted, and why the rest is not.

admit   before work is put into a question ─▶ refused? ─▶ counted
accept  ─▶ checked by the model ─▶ FairQueue ─▶ a job, and the one that had to make room for it
"""

from __future__ import annotations

from collections.abc import Callable

from edge_server.engine.acceptance import accepted
from edge_server.engine.config import EngineConfig
from edge_server.engine.endings import reason_of
from edge_server.engine.observer import EngineObserver
from edge_server.engine.ports import Model
from edge_server.engine.queue import FairQueue, crowd_delay_s
from edge_server.engine.request import Job, Priority, Request
from edge_server.engine.service_rate import ServiceRate
from edge_server.errors import DrainingError, EdgeServerError, EngineOverloadedError


class Intake:
    """Accepts questions while it is open.

    Args:
        model: checks them.
        config: bounds.
        queue: where they wait.
        observer: is told of those that are refused.
        clock: monotonic seconds.
        new_seed: of 64 bits, for questions that sample and bring none.
    """

    def __init__(
        self,
        model: Model,
        config: EngineConfig,
        queue: FairQueue,
        observer: EngineObserver,
        clock: Callable[[], float],
        new_seed: Callable[[], int],
    ) -> None:
        self._model, self._config, self._queue = model, config, queue
        self._observer, self._clock, self._new_seed = observer, clock, new_seed
        self.rate = ServiceRate(clock())
        self.is_open = False

    def admit(self, user: str, priority: Priority = "interactive") -> None:
        """Tell whether a question of this user would be accepted now, before work is put into it.

        Raises:
            DrainingError: nothing new is accepted.
            EngineOverloadedError: the queue, or this user's share of it, is full.
        """
        try:
            if not self.is_open:
                raise DrainingError
            self._queue.refuse_if_full(user, self.rate.s_per_question, priority)
        except (DrainingError, EngineOverloadedError) as error:
            self._observer.rejected(reason_of(error))
            raise

    def accept(self, request: Request) -> tuple[Job, Job | None]:
        """Put a question in the queue; the one that was put out of it for this one comes second.

        Raises:
            InvalidQuestionError: the model cannot take it, or it would not fit a batch alone.
            DrainingError: nothing new is accepted.
            EngineOverloadedError: the queue, or this user's share of it, is full.
        """
        try:
            if not self.is_open:
                raise DrainingError
            job = accepted(request, self._model, self._config, self._new_seed, self._clock())
            return job, self._queue.push(job, self.rate.s_per_question)
        except EdgeServerError as error:
            self._observer.rejected(reason_of(error))
            raise

    def retry_delay_s(self, unanswered: int) -> float:
        """After how long it pays to come again: most of what is unanswered now is answered then [s]."""
        return crowd_delay_s(unanswered, self.rate.s_per_question)

    def eviction(self, unanswered: int) -> EngineOverloadedError:
        """How a question ends that was put out of the queue."""
        return EngineOverloadedError(
            "the queue is full and a question that goes before this one came",
            reason="evicted",
            retry_delay_s=self.retry_delay_s(unanswered),
        )
