"""The asker's end of a question: what comes back, piece by piece, on the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from edge_server.engine.request import Completion, Event
from edge_server.errors import EdgeServerError


class AnswerStream:
    """An asynchronous iterator of :class:`Delta`, ended by exactly one :class:`Completion` or error.

    Belongs to one event loop and one reader. A reader that leaves early calls :meth:`cancel`.

    Args:
        on_cancel: called once if the question is cancelled before its end.
    """

    def __init__(self, on_cancel: Callable[[], None]) -> None:
        self._on_cancel = on_cancel
        self._events: deque[Event] = deque()
        self._error: EdgeServerError | None = None
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def ended(self) -> bool:
        """Whether its end has come; events may still wait to be read."""
        return self._ended

    def __aiter__(self) -> AnswerStream:
        return self

    async def __anext__(self) -> Event:
        """The next piece.

        Raises:
            EdgeServerError: the question ended without an answer; the error says why.
        """
        while not self._events:
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            if self._ended:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._events.popleft()

    async def completion(self) -> Completion:
        """Read to the end.

        Raises:
            EdgeServerError: the question ended without an answer.
        """
        async for event in self:
            if isinstance(event, Completion):
                return event
        raise RuntimeError("an answer is read once")

    def cancel(self) -> None:
        """Take the question back: its slot in the batch is free within one step. Harmless after its end."""
        if not self._ended:
            self._on_cancel()

    def push(self, event: Event) -> None:
        """For the engine: a further piece; a :class:`Completion` is the last."""
        if self._ended:
            return
        self._events.append(event)
        self._ended = isinstance(event, Completion)
        self._wake()

    def fail(self, error: EdgeServerError) -> None:
        """For the engine: it ends without an answer."""
        if self._ended:
            return
        self._error = error
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
