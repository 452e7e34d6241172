"""How fast an engine answers, measured between the ends of its answers.

The engine estimates from it after how long somebody who was turned away should come again.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_server.engine.request import Completion

_FIRST_GUESS_S_PER_QUESTION = 0.02
_MEMORY = 0.95


class ServiceRate:
    """Seconds per question of an engine that is busy.

    Answers end in groups, one per step of a batch: the time between two groups is what all questions of the
    second took together. The mean is one of times over one of counts: a mean of their ratios would weigh a
    straggler that ended alone like a full batch.

    Args:
        now_s: on the clock that :meth:`ended` is called with [s].
    """

    def __init__(self, now_s: float) -> None:
        self._last_s = now_s
        self._took_s, self._answers = _FIRST_GUESS_S_PER_QUESTION, 1.0

    @property
    def s_per_question(self) -> float:
        """Between two answers, on average over the last groups [s]."""
        return self._took_s / self._answers

    def ended(self, answers: Sequence[Completion], now_s: float) -> None:
        """A group of answers, not empty, has ended together."""
        # An idle spell is no rate: a question takes no longer than it ran.
        took_s = min(now_s - self._last_s, max(answer.compute_s for answer in answers))
        self._last_s = now_s
        self._took_s = _MEMORY * self._took_s + took_s
        self._answers = _MEMORY * self._answers + len(answers)
