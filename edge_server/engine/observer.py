"""What the engine tells about itself, to whoever counts it.

The engine knows no metrics library; the front door's Prometheus registry implements this port.
Calls come from the worker threads and from the event loop; implementations are thread-safe and quick.
"""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

from edge_server.engine.request import Completion, Request

QuestionEnd: TypeAlias = Literal["answered", "cancelled", "expired", "invalid", "failed", "overloaded"]
"""How an accepted question ended; ``overloaded``: it had to leave the full queue for another."""


class EngineObserver(Protocol):
    """The port through which an engine is watched."""

    def prefilled(self, prompts: int, seconds: float) -> None:
        """One prefill of so many prompts took so long [s]."""

    def decoded(self, rows: int, seconds: float) -> None:
        """One decode step of so many rows took so long [s]."""

    def first_token(self, queue_s: float, since_submit_s: float) -> None:
        """A question got its first language token: how long it waited, and since it was submitted [s]."""

    def answered(self, request: Request, completion: Completion) -> None:
        """A question got its answer, and ends with it. A request that is kept keeps its blocks in memory."""

    def ended(self, outcome: QuestionEnd, answer_tokens: int, since_submit_s: float) -> None:
        """An accepted question ended: how, after how many language tokens, how long after submission [s]."""

    def rejected(self, reason: str) -> None:
        """A question was not accepted."""

    def worker_replaced(self) -> None:
        """A worker thread, or a process that computed for one, died and a new one took over."""


class SilentObserver:
    """Watches nothing; for tests and tools."""

    def prefilled(self, prompts: int, seconds: float) -> None:
        """Ignore it."""

    def decoded(self, rows: int, seconds: float) -> None:
        """Ignore it."""

    def first_token(self, queue_s: float, since_submit_s: float) -> None:
        """Ignore it."""

    def answered(self, request: Request, completion: Completion) -> None:
        """Ignore it."""

    def ended(self, outcome: QuestionEnd, answer_tokens: int, since_submit_s: float) -> None:
        """Ignore it."""

    def rejected(self, reason: str) -> None:
        """Ignore it."""

    def worker_replaced(self) -> None:
        """Ignore it."""
