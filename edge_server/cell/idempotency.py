"""Questions of a device by request_id: one that is sent again is answered from the same run.

A device whose link was cut cannot know whether its question arrived. It asks again under the same
request_id; the cache gives it the run that is under way, or the answer that was given. Held by the device's
session, asked by :meth:`edge_server.cell.cell.Cell.ask`.

What ended without an answer (cancelled, refused, failed) is forgotten at once: asking again runs again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from edge_server.cell.answers import KeptAnswers
from edge_server.engine import AnswerStream, Completion, Delta, Event
from edge_server.engine.answer import AnswerReader
from edge_server.errors import RequestConflictError


class Subscription:
    """One asker's interest in a run. Iterate over it; :meth:`close` it in any case.

    A run in which nobody is interested any more is cancelled.
    """

    def __init__(self, entry: _Entry) -> None:
        self._entry: _Entry | None = entry
        self._events = _Events(entry)
        entry.askers += 1

    def __aiter__(self) -> _Events:
        return self._events

    def close(self) -> None:
        """No longer interested. Harmless when called twice, and after the end."""
        entry, self._entry = self._entry, None
        if entry is not None:
            entry.askers -= 1
            if not entry.askers:
                entry.stream.cancel()

    def cancel(self) -> None:
        """End the run for everybody."""
        self._events.entry.stream.cancel()


class _Entry:
    __slots__ = ("askers", "digest", "stored", "stream")

    def __init__(self, digest: bytes, stream: AnswerStream) -> None:
        self.digest = digest
        self.stream = stream
        self.askers = 0
        self.stored: asyncio.Future[None] | None = None


class _Events:
    """One reading of a run. Its answer comes only once the copy that is to outlive this process is safe."""

    __slots__ = ("_reader", "entry")

    def __init__(self, entry: _Entry) -> None:
        self.entry = entry
        self._reader: AnswerReader = aiter(entry.stream)

    def __aiter__(self) -> _Events:
        return self

    async def __anext__(self) -> Event:
        event = await anext(self._reader)
        if isinstance(event, Completion) and self.entry.stored is not None:
            # Not awaited itself: an asker that is cancelled must not cancel it for the others.
            await asyncio.wait([self.entry.stored])
        return event


class IdempotencyCache:
    """The questions of one device, over all its sessions.

    Args:
        device_id: whose.
        answers: where its answers are kept.
    """

    def __init__(self, device_id: str, answers: KeptAnswers) -> None:
        self._device_id = device_id
        self._answers = answers
        self._running: dict[str, _Entry] = {}

    @property
    def in_flight(self) -> int:
        """Questions whose end has not come."""
        return len(self._running)

    def find(self, request_id: str, digest: Callable[[], bytes]) -> Subscription | None:
        """The run of a question that was asked before, or its answer in one piece.

        Args:
            request_id: its key.
            digest: of its content; taken only where the key is known.

        Raises:
            RequestConflictError: the key belongs to a question with other content.
        """
        entry = self._running.get(request_id) or self._kept(request_id)
        if entry is None:
            return None
        if entry.digest != digest():
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

    def acknowledge(self, request_ids: Iterable[str]) -> None:
        """The device has the answers to these; unknown ones do not matter."""
        self._answers.acknowledge(self._device_id, request_ids)

    def _kept(self, request_id: str) -> _Entry | None:
        kept = self._answers.get(self._device_id, request_id)
        if kept is None:
            return None
        stream = AnswerStream(lambda: None)
        if kept.completion.text:
            stream.push(Delta(kept.completion.text))
        stream.push(kept.completion)
        return _Entry(kept.digest, stream)

    def _file(self, request_id: str, entry: _Entry) -> None:
        del self._running[request_id]
        completion = entry.stream.answer
        if completion is not None:
            entry.stored = self._answers.keep(self._device_id, request_id, entry.digest, completion)
