"""The part of a question's trace that its engine sees: how long it waited in the queue, how long it ran.

    question (door) ─┬─ admission, queue, prefill, decode, answer     told by the door
                     ├─ work queue   from the broker taking it until it was pulled
                     └─ engine       until its end was told; once for each engine that had it

The door's span travels beside the question, as W3C Trace Context in a header of the message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

TRACEPARENT = "traceparent"
"""Header of a question."""


class WorkTracing(Protocol):
    """Tells spans that are over, of questions that an engine node had."""

    def ran(
        self,
        name: str,
        traceparent: str,
        began_s: float,
        ended_s: float,
        facts: Mapping[str, str | int],
        error: str = "",
    ) -> None:
        """Something of a question is over.

        Args:
            name: of the span.
            traceparent: of the question's span, at its door.
            began_s: seconds since the Unix epoch.
            ended_s: likewise.
            facts: that the span carries.
            error: kind of what ended it; empty: it was answered.
        """
