"""A chat's question about each window of its media: answers listed in one message, a line for each window."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from edge_server.engine import Completion
from edge_server.errors import EdgeServerError
from edge_server.frontdoor.http.asking import Asked
from edge_server.frontdoor.http.errors import body_of
from edge_server.frontdoor.http.openai_answers import Head, assurance_of
from edge_server.frontdoor.http.openai_schema import (
    AssistantMessage,
    Assurance,
    ChatCompletion,
    Choice,
    ChunkChoice,
    ChunkDelta,
    Usage,
    WindowAnswer,
)
from edge_server.frontdoor.http.rest_schema import ShownPart
from edge_server.frontdoor.ports import ShownWindow


@dataclass(frozen=True)
class Part:
    """The answer about one window.

    Attributes:
        asked: the question.
        completion: its answer.
    """

    asked: Asked
    completion: Completion

    @property
    def window(self) -> ShownWindow | None:
        """What it is about."""
        return self.asked.ready.window

    @property
    def told(self) -> WindowAnswer:
        """As a client gets it."""
        assert self.window is not None  # noqa: S101 - else nothing would have come
        return WindowAnswer(
            window=ShownPart(**asdict(self.window)),
            content=self.completion.text,
            finish_reason=self.completion.finish_reason,
            assurance=assurance_of(self.completion),
        )

    @property
    def line(self) -> str:
        """What a reader of the content sees."""
        window = self.told.window
        return f"{_time(window.start_s)} to {_time(window.end_s)}: {self.completion.text}"


async def all_of(found: list[Part], parts: AsyncIterator[Part]) -> list[Part]:
    """What was found, and what comes."""
    return found + [part async for part in parts]


def whole(head: Head, parts: Sequence[Part]) -> ChatCompletion:
    """The answers about all windows as one: a line for each."""
    return ChatCompletion(
        id=head.id,
        created=head.created,
        model=head.model,
        choices=[
            Choice(
                message=AssistantMessage(content="\n".join(part.line for part in parts)),
                finish_reason=_reason(parts),
                assurance=_of_all(parts),
            )
        ],
        usage=_usage_of_parts(parts),
        windows=[part.told for part in parts],
        warnings=head.warnings,
    )


async def events_of_parts(
    first: Part, more: AsyncGenerator[Part], head: Head, *, include_usage: bool
) -> AsyncIterator[str]:
    """The events of answers about one window after the other; what is under way ends with them."""
    parts = [first]
    try:
        yield head.first_chunk([ChunkChoice(delta=ChunkDelta(role="assistant", content=""))])
        yield head.chunk([ChunkChoice(delta=ChunkDelta(content=first.line))], windows=[first.told])
        async for part in more:
            parts.append(part)
            delta = ChunkDelta(content=f"\n{part.line}")
            yield head.chunk([ChunkChoice(delta=delta)], windows=[part.told])
        end = ChunkChoice(delta=ChunkDelta(), finish_reason=_reason(parts), assurance=_of_all(parts))
        yield head.chunk([end])
        if include_usage:
            yield head.chunk([], _usage_of_parts(parts))
        yield "data: [DONE]\n\n"
    except EdgeServerError as error:
        yield f"data: {body_of(error).model_dump_json()}\n\n"
    finally:
        await more.aclose()


def _reason(parts: Sequence[Part]) -> Literal["stop", "length"]:
    return "length" if any(part.completion.finish_reason == "length" for part in parts) else "stop"


def _of_all(parts: Sequence[Part]) -> Assurance:
    """Each window has its own; all were held back, or something was said."""
    return Assurance(confidence=None, abstained=all(part.completion.abstained for part in parts), guess=None)


def _usage_of_parts(parts: Sequence[Part]) -> Usage:
    """Each window's prompt counts: it was read."""
    prompt = sum(part.completion.prompt_tokens for part in parts)
    answers = sum(part.completion.answer_tokens for part in parts)
    return Usage(prompt_tokens=prompt, completion_tokens=answers, total_tokens=prompt + answers)


def _time(seconds: float) -> str:
    """As ``1:04``; with tenths where there are some."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    return f"{minutes}:{rest // 10:02d}" + (f".{rest % 10}" if rest % 10 else "")
