"""What the page shows of the server: observed through the ports through which Prometheus' series are."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from edge_server.engine import Completion, QuestionEnd, Request
from edge_server.frontdoor.metrics import Metrics
from edge_server.ui.window import Quantiles, Window

WINDOW_S = 300.0
"""Quantiles are of the last five minutes."""
RATE_S = 60
"""Answers per second are shown for the last minute."""
_MAX_VALUES = 4096
_ANSWERS_SHOWN = 12
_IDS_KEPT = 96
_SECONDS_A_VIEW_LASTS = 0.5


@dataclass(frozen=True)
class RecentAnswer:
    """An answer that was given.

    Attributes:
        asker: the device, or who asked over REST.
        question_ids: language tokens of the question; empty where it came over the analog path.
        blocks: modality and token_length of what came with it.
        text: the answer.
        probability: of it.
        confidence: that it is right, calibrated; None: not known.
        queue_s, compute_s: waiting, and the model's time [s].
        at: on the watch's clock [s].
    """

    asker: str
    question_ids: tuple[int, ...]
    blocks: tuple[tuple[str, int], ...]
    text: str
    probability: float
    queue_s: float
    compute_s: float
    at: float
    confidence: float | None = None


@dataclass(frozen=True)
class View:
    """What was observed, as of now.

    Attributes:
        up_s: since the watch began [s].
        queue_depth: questions that wait.
        batch_rows: questions in the running batches.
        answered: questions that were.
        outcomes: accepted questions by how they ended.
        refusals: questions and sessions that were not accepted, by reason.
        queue: submission to prefill [s].
        airtime: of one codeword on the (emulated) air [s].
        inference: prefill to the end of an answer [s].
        batch_sizes: decode steps of the window by their rows.
        answers_per_s: of each second of the last minute, the present one last.
        recent: answers, the latest first.
    """

    up_s: float
    queue_depth: int
    batch_rows: int
    answered: int
    outcomes: dict[str, int]
    refusals: dict[str, int]
    queue: Quantiles
    airtime: Quantiles
    inference: Quantiles
    batch_sizes: dict[int, int]
    answers_per_s: list[int]
    recent: tuple[RecentAnswer, ...]


class WatchedMetrics(Metrics):
    """Metrics that can also be looked at. Observed from worker threads and the event loop.

    Args:
        registry, version, outage_snr_db: as with :class:`Metrics`.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        version: str = "",
        outage_snr_db: float = -12.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(registry, version=version, outage_snr_db=outage_snr_db)
        self.name_of: Callable[[str], str] = lambda user: user
        """What a user of the engine is called on the page; its ids of sessions are secrets."""
        self._clock = clock
        self._began_at = clock()
        self._lock = threading.Lock()
        self._outcomes: Counter[str] = Counter()
        self._refusals: Counter[str] = Counter()
        self._queue_s, self._airtime_s, self._inference_s, self._sizes = (
            Window(WINDOW_S, _MAX_VALUES, clock) for _ in range(4)
        )
        self._recent: deque[RecentAnswer] = deque(maxlen=_ANSWERS_SHOWN)
        self._view: View | None = None
        self._viewed_at = 0.0

    def decoded(self, rows: int, seconds: float) -> None:
        """As in :class:`Metrics`."""
        super().decoded(rows, seconds)
        self._sizes.observe(rows)

    def first_token(self, queue_s: float, since_submit_s: float) -> None:
        """As in :class:`Metrics`."""
        super().first_token(queue_s, since_submit_s)
        self._queue_s.observe(queue_s)

    def answered(self, request: Request, completion: Completion) -> None:
        """As in :class:`Metrics`."""
        super().answered(request, completion)
        self._inference_s.observe(completion.compute_s)
        answer = RecentAnswer(
            asker=self.name_of(request.user),
            question_ids=request.prompt.question_ids[:_IDS_KEPT],
            blocks=tuple((block.modality, len(block.x_TC)) for block in request.prompt.blocks),
            text=completion.text,
            probability=completion.probability,
            queue_s=completion.queue_s,
            compute_s=completion.compute_s,
            at=self._clock(),
            confidence=completion.confidence,
        )
        with self._lock:
            self._recent.appendleft(answer)

    def ended(self, outcome: QuestionEnd, answer_tokens: int, since_submit_s: float) -> None:
        """As in :class:`Metrics`."""
        super().ended(outcome, answer_tokens, since_submit_s)
        with self._lock:
            self._outcomes[outcome] += 1

    def rejected(self, reason: str) -> None:
        """As in :class:`Metrics`."""
        super().rejected(reason)
        with self._lock:
            self._refusals[reason] += 1

    def block(self, modality: str, token_length: int, airtime_s: float, effective_snr_db: float) -> None:
        """As in :class:`Metrics`."""
        super().block(modality, token_length, airtime_s, effective_snr_db)
        if airtime_s > 0.0:
            self._airtime_s.observe(airtime_s)

    def view(self) -> View:
        """What was observed; the same for every viewer within half a second, so that many cost as one."""
        now = self._clock()
        if self._view is None or now - self._viewed_at >= _SECONDS_A_VIEW_LASTS:
            self._view, self._viewed_at = self._look(now), now
        return self._view

    def _look(self, now: float) -> View:
        with self._lock:
            outcomes, refusals, recent = dict(self._outcomes), dict(self._refusals), tuple(self._recent)
        return View(
            up_s=now - self._began_at,
            queue_depth=self.waiting(),
            batch_rows=self.running(),
            answered=outcomes.get("answered", 0),
            outcomes=outcomes,
            refusals=refusals,
            queue=self._queue_s.quantiles(),
            airtime=self._airtime_s.quantiles(),
            inference=self._inference_s.quantiles(),
            batch_sizes=dict(sorted(Counter(map(int, self._sizes.values())).items())),
            answers_per_s=self._inference_s.per_second(RATE_S),
            recent=recent,
        )
