"""An answer as its asker reads it: pieces of text, then the whole answer or an error.

Made by an engine for each question that it accepts, read by the front doors. Everything here runs on the
event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from edge_server.engine.request import Completion, Event
from edge_server.errors import EdgeServerError


class AnswerStream:
    """An answer as it comes about: any number of :class:`Delta`, then one :class:`Completion` or error.

    Belongs to one event loop. Every ``async for`` over it reads from the beginning, so that a question
    that is asked again meanwhile is answered from the same run. Whoever no longer wants it calls
    :meth:`cancel`.

    Args:
        on_cancel: called if the question is cancelled before its end.
    """

    def __init__(self, on_cancel: Callable[[], None]) -> None:
        self._on_cancel: Callable[[], None] | None = on_cancel
        self._on_end: Callable[[], None] | None = None
        self._events: list[Event] = []
        self._error: EdgeServerError | None = None
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def ended(self) -> bool:
        """Whether its end has come; there may still be events to read."""
        return self._on_cancel is None

    @property
    def error(self) -> EdgeServerError | None:
        """Why it ended without an answer, if it did."""
        return self._error

    @property
    def answer(self) -> Completion | None:
        """The whole answer, once it is there."""
        last = self._events[-1] if self._events else None
        return last if isinstance(last, Completion) else None

    def __aiter__(self) -> AnswerReader:
        return AnswerReader(self)

    async def completion(self) -> Completion:
        """Wait for the end.

        Raises:
            EdgeServerError: the question ended without an answer.
        """
        async for event in self:
            if isinstance(event, Completion):
                return event
        raise AssertionError("a stream without an error ends with its completion")

    def cancel(self) -> None:
        """Take the question back: its row in the batch is free within one step. Harmless after its end."""
        if self._on_cancel is not None:
            self._on_cancel()

    def when_ended(self, callback: Callable[[], None]) -> None:
        """Have one callback called at its end; at once if that has come."""
        if self.ended:
            callback()
        else:
            self._on_end = callback

    def push(self, event: Event) -> None:
        """For the engine: a further piece; a :class:`Completion` is the last."""
        if self.ended:
            return
        self._events.append(event)
        if isinstance(event, Completion):
            self._end()
        self._wake()

    def fail(self, error: EdgeServerError) -> None:
        """For the engine: it ends without an answer."""
        if self.ended:
            return
        self._error = error
        self._end()
        self._wake()

    def _end(self) -> None:
        # The callback holds the prompt's arrays; an answer that is kept must not keep them too.
        self._on_cancel = None
        callback, self._on_end = self._on_end, None
        if callback is not None:
            callback()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class AnswerReader:
    """One reading of an :class:`AnswerStream`, from its beginning."""

    __slots__ = ("_position", "_stream")

    def __init__(self, stream: AnswerStream) -> None:
        self._stream = stream
        self._position = 0

    def __aiter__(self) -> AnswerReader:
        return self

    async def __anext__(self) -> Event:
        """The next piece.

        Raises:
            EdgeServerError: the question ended without an answer; the error says why.
        """
        stream = self._stream
        while self._position >= len(stream._events):
            if stream._error is not None:
                # Several readers may raise it: none should see another's traceback.
                raise stream._error.with_traceback(None)
            if stream.ended:
                raise StopAsyncIteration
            waiter = asyncio.get_running_loop().create_future()
            stream._waiters.append(waiter)
            await waiter
        event = stream._events[self._position]
        self._position += 1
        return event


async def merged(streams: Sequence[AnswerStream]) -> AsyncIterator[tuple[int, Event]]:
    """The pieces of several answers as they come, each with the number of its answer.

    Raises:
        EdgeServerError: one of the questions ended without an answer.
    """
    if len(streams) == 1:
        async for event in streams[0]:
            yield 0, event
        return
    readers = [aiter(stream) for stream in streams]
    waiting = {asyncio.create_task(_next(reader)): number for number, reader in enumerate(readers)}
    try:
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                number, found = waiting.pop(task), task.result()
                if found is not None:
                    yield number, found
                    waiting[asyncio.create_task(_next(readers[number]))] = number
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def _next(reader: AnswerReader) -> Event | None:
    return await anext(reader, None)
