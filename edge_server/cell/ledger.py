"""Questions of a session by request_id: one that is sent again is answered from the same run.

A device whose link was cut cannot know whether its question arrived. It asks again under the same
request_id; the ledger gives it the run that is under way, or the answer that was given.

What ended without an answer (cancelled, refused, failed) is forgotten at once: asking again runs again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from edge_server.engine import AnswerStream
from edge_server.engine.answer import AnswerReader
from edge_server.errors import RequestConflictError


class Subscription:
    """One asker's interest in a run. Iterate over it; :meth:`close` it in any case.

    A run in which nobody is interested any more is cancelled.
    """

    def __init__(self, entry: _Entry) -> None:
        self._entry: _Entry | None = entry
        self._stream = entry.stream
        entry.askers += 1

    def __aiter__(self) -> AnswerReader:
        return aiter(self._stream)

    def close(self) -> None:
        """No longer interested. Harmless when called twice, and after the end."""
        entry, self._entry = self._entry, None
        if entry is not None:
            entry.askers -= 1
            if not entry.askers:
                entry.stream.cancel()

    def cancel(self) -> None:
        """End the run for everybody."""
        self._stream.cancel()


class _Entry:
    __slots__ = ("askers", "digest", "ended_at", "stream")

    def __init__(self, digest: bytes, stream: AnswerStream) -> None:
        self.digest = digest
        self.stream = stream
        self.askers = 0
        self.ended_at = 0.0


class AnswerLedger:
    """The questions of one session.

    Args:
        answers_kept: bound on answers that wait for a repeat.
        answers_kept_s: how long they do [s].
        clock: monotonic seconds.
    """

    def __init__(self, answers_kept: int, answers_kept_s: float, clock: Callable[[], float]) -> None:
        self._answers_kept = answers_kept
        self._answers_kept_s = answers_kept_s
        self._clock = clock
        self._running: dict[str, _Entry] = {}
        self._answered: OrderedDict[str, _Entry] = OrderedDict()

    @property
    def in_flight(self) -> int:
        """Questions whose end has not come."""
        return len(self._running)

    def find(self, request_id: str, digest: bytes) -> Subscription | None:
        """The run of a question that was asked before.

        Args:
            request_id: its key.
            digest: of its content.

        Raises:
            RequestConflictError: the key belongs to a question with other content.
        """
        self._forget_old()
        entry = self._running.get(request_id) or self._answered.get(request_id)
        if entry is None:
            return None
        if entry.digest != digest:
            raise RequestConflictError(request_id)
        return Subscription(entry)

    def record(self, request_id: str, digest: bytes, stream: AnswerStream) -> Subscription:
        """A run that has just begun."""
        entry = _Entry(digest, stream)
        self._running[request_id] = entry
        subscription = Subscription(entry)
        stream.when_ended(lambda: self._file(request_id, entry))
        return subscription

    def cancel(self, request_id: str) -> bool:
        """Cancel a question; False if none of that key runs."""
        entry = self._running.get(request_id)
        if entry is None:
            return False
        entry.stream.cancel()
        return True

    def cancel_all(self) -> None:
        """Cancel every question that runs."""
        for entry in list(self._running.values()):
            entry.stream.cancel()

    def _file(self, request_id: str, entry: _Entry) -> None:
        del self._running[request_id]
        if entry.stream.error is not None:
            return
        entry.ended_at = self._clock()
        self._answered[request_id] = entry
        self._forget_old()

    def _forget_old(self) -> None:
        oldest_kept = self._clock() - self._answers_kept_s
        while self._answered:
            entry = next(iter(self._answered.values()))
            if len(self._answered) <= self._answers_kept and entry.ended_at > oldest_kept:
                break
            self._answered.popitem(last=False)
