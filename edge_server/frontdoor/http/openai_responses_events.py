"""A response as the events of a stream, in the order that OpenAI's clients know.

created, in_progress ─▶ item added ─▶ part added ─▶ deltas ─▶ text, part, item done ─▶ completed, incomplete
                                                      └─ the engine fails ─▶ error, failed
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from edge_server.engine import Delta
from edge_server.engine.answer import merged
from edge_server.errors import EdgeServerError
from edge_server.frontdoor.http.errors import ErrorDetail, body_of
from edge_server.frontdoor.http.openai_answers import Head, completion_of, logprobs_of
from edge_server.frontdoor.http.openai_asking import Begun
from edge_server.frontdoor.http.openai_every import whole
from edge_server.frontdoor.http.openai_question import Words
from edge_server.frontdoor.http.openai_responses_answers import Response
from edge_server.frontdoor.http.openai_responses_body import (
    ErrorEvent,
    Event,
    ItemEvent,
    ItemStep,
    ModelResponse,
    OutputMessage,
    OutputText,
    PartEvent,
    PartStep,
    State,
    StateEvent,
    TextDelta,
    TextDone,
)
from edge_server.frontdoor.http.openai_schema import ChatCompletion, Logprobs, WindowAnswer


@dataclass(frozen=True)
class Piece:
    """A further piece of an answer.

    Attributes:
        text: it.
        logprobs: of its language tokens; None: nobody asked.
        window: of a question about every window, the answer that it adds.
    """

    text: str
    logprobs: Logprobs | None = None
    window: WindowAnswer | None = None


async def pieces_of(asked: Begun, head: Head) -> AsyncGenerator[Piece | ChatCompletion]:
    """The pieces of an answer as they come about, and at the end all of it."""
    if asked.first is not None and asked.more is not None:
        parts = [asked.first]
        yield Piece(asked.first.line, window=asked.first.told)
        async for part in asked.more:
            parts.append(part)
            yield Piece(f"\n{part.line}", window=part.told)
        yield whole(head, parts)
        return
    async for _, event in merged(asked.asked.streams):
        if isinstance(event, Delta):
            yield Piece(event.text, logprobs_of(event.tokens, asked.spell))
        else:
            yield completion_of(head, asked.asked, [event], asked.spell)


@dataclass
class _Events:
    """Events in their order.

    Attributes:
        message_id: of the message that they are about.
    """

    message_id: str
    _numbers: Iterator[int] = field(default_factory=count)

    def state(self, name: State, response: ModelResponse) -> str:
        """How the whole stands."""
        return _sse(StateEvent(type=name, sequence_number=next(self._numbers), response=response))

    def item(self, name: Literal["added", "done"], item: OutputMessage) -> str:
        """The message begins, or has ended."""
        kind: ItemStep = "response.output_item.added" if name == "added" else "response.output_item.done"
        return _sse(ItemEvent(type=kind, sequence_number=next(self._numbers), item=item))

    def part(self, name: Literal["added", "done"], part: OutputText) -> str:
        """Its text begins, or has ended."""
        kind: PartStep = "response.content_part.added" if name == "added" else "response.content_part.done"
        return _sse(
            PartEvent(type=kind, sequence_number=next(self._numbers), item_id=self.message_id, part=part)
        )

    def delta(self, piece: Piece) -> str:
        """A further piece of the text."""
        told = TextDelta(
            sequence_number=next(self._numbers),
            item_id=self.message_id,
            delta=piece.text,
            logprobs=[] if piece.logprobs is None else piece.logprobs.content,
            windows=None if piece.window is None else [piece.window],
        )
        return _sse(told, {"windows"} if told.windows is None else None)

    def text(self, part: OutputText) -> str:
        """All of the text."""
        return _sse(
            TextDone(
                sequence_number=next(self._numbers),
                item_id=self.message_id,
                text=part.text,
                logprobs=part.logprobs,
            )
        )

    def error(self, detail: ErrorDetail) -> str:
        """Why no more comes."""
        return _sse(
            ErrorEvent(
                sequence_number=next(self._numbers),
                code=detail.code,
                message=detail.message,
                param=detail.param,
                error=detail,
            )
        )


def _sse(event: Event, left_out: set[str] | None = None) -> str:
    return f"event: {event.type}\ndata: {event.model_dump_json(exclude=left_out)}\n\n"


async def events_of(response: Response, asked: Begun, head: Head, words: Words) -> AsyncIterator[str]:
    """The events of a response, as they come about; what is under way ends with them.

    Args:
        response: what they are about.
        asked: its question.
        head: what all of its answers say.
        words: what the client calls a field of the chat.
    """
    events = _Events(response.message_id)
    try:
        yield events.state("response.created", response.opened)
        yield events.state("response.in_progress", response.opened)
        yield events.item("added", response.message("in_progress"))
        yield events.part("added", OutputText(text=""))
        async with contextlib.aclosing(pieces_of(asked, head)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Piece):
                    yield events.delta(piece)
                    continue
                done = response.done(piece)
                (item,) = done.output
                (part,) = item.content
                yield events.text(part)
                yield events.part("done", part)
                yield events.item("done", item)
                cut = done.status == "incomplete"
                yield events.state("response.incomplete" if cut else "response.completed", done)
    except EdgeServerError as error:
        # The status line is gone; some clients look for the one event, some for the other.
        detail = body_of(error).error
        yield events.error(detail.model_copy(update={"param": detail.param and words(detail.param)}))
        yield events.state("response.failed", response.failed(error))
    finally:
        await asked.close()
