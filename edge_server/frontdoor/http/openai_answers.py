"""Answers of the OpenAI door in its words: as a whole, and as events of a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from edge_server.engine import Completion, Delta, Token
from edge_server.engine.answer import merged
from edge_server.errors import EdgeServerError
from edge_server.frontdoor.http.asking import Asked
from edge_server.frontdoor.http.errors import body_of
from edge_server.frontdoor.http.openai_schema import (
    AssistantMessage,
    Assurance,
    ChatChunk,
    ChatCompletion,
    Choice,
    ChunkChoice,
    ChunkDelta,
    Logprobs,
    SaidToken,
    TopToken,
    Usage,
    WindowAnswer,
)
from edge_server.frontdoor.http.rest_schema import SceneShownPart, ShownPart


@dataclass(frozen=True)
class Head:
    """What every event says, and the whole too."""

    id: str
    created: int
    model: str
    warnings: list[str] | None
    scenes: list[SceneShownPart] | None = None

    def first_chunk(self, choices: list[ChunkChoice]) -> str:
        """With what the client is told once."""
        return self._chunk(choices, None, self.warnings, scenes=self.scenes)

    def chunk(
        self,
        choices: list[ChunkChoice],
        usage: Usage | None = None,
        windows: list[WindowAnswer] | None = None,
    ) -> str:
        """One event."""
        return self._chunk(choices, usage, None, windows)

    def _chunk(
        self,
        choices: list[ChunkChoice],
        usage: Usage | None,
        warnings: list[str] | None,
        windows: list[WindowAnswer] | None = None,
        scenes: list[SceneShownPart] | None = None,
    ) -> str:
        chunk = ChatChunk(
            id=self.id,
            created=self.created,
            model=self.model,
            choices=choices,
            usage=usage,
            windows=windows,
            scenes=scenes,
            warnings=warnings,
        )
        # Only these are left out where they are absent: clients read finish_reason null as "goes on". A role
        # of null, which OpenAI never sends, makes strict ones pass over the text beside it.
        absent: dict[str, Any] = {
            name: True
            for name, value in (
                *(("usage", usage), ("windows", windows)),
                *(("scenes", scenes), ("warnings", warnings)),
            )
            if value is None
        }
        left_out: dict[str, Any] = {}
        if all(choice.assurance is None for choice in choices):
            left_out["assurance"] = True
        if all(choice.delta.role is None for choice in choices):
            left_out["delta"] = {"role"}
        if choices and left_out:
            absent["choices"] = {"__all__": left_out}
        return f"data: {chunk.model_dump_json(exclude=absent)}\n\n"


Spell: TypeAlias = Callable[[int], bytes]
"""The bytes of a language token."""


async def completions_of(asked: Asked) -> list[Completion]:
    """All answers, each to its end."""
    return [await stream.completion() for stream in asked.streams]


def completion_of(
    head: Head, asked: Asked, completions: Sequence[Completion], spell: Spell | None
) -> ChatCompletion:
    """All answers of a question in one."""
    window = asked.ready.window
    return ChatCompletion(
        id=head.id,
        created=head.created,
        model=head.model,
        choices=[
            Choice(
                index=number,
                message=AssistantMessage(content=completion.text),
                finish_reason=completion.finish_reason,
                logprobs=logprobs_of(completion.tokens, spell),
                assurance=assurance_of(completion),
            )
            for number, completion in enumerate(completions)
        ],
        usage=usage_of(completions),
        window=None if window is None else ShownPart(**asdict(window)),
        scenes=head.scenes,
        warnings=head.warnings,
    )


async def events_of(
    asked: Asked, head: Head, spell: Spell | None, *, include_usage: bool
) -> AsyncIterator[str]:
    """The events of a question's answers, as they come about."""
    completions = []
    try:
        begun = [
            ChunkChoice(index=index, delta=ChunkDelta(role="assistant", content=""))
            for index in range(len(asked.streams))
        ]
        yield head.first_chunk(begun[:1])
        for choice in begun[1:]:
            yield head.chunk([choice])
        async for index, event in merged(asked.streams):
            if isinstance(event, Delta):
                delta, logprobs = ChunkDelta(content=event.text), logprobs_of(event.tokens, spell)
                yield head.chunk([ChunkChoice(index=index, delta=delta, logprobs=logprobs)])
            else:
                completions.append(event)
                yield head.chunk(
                    [
                        ChunkChoice(
                            index=index,
                            delta=ChunkDelta(),
                            finish_reason=event.finish_reason,
                            assurance=assurance_of(event),
                        )
                    ]
                )
        if include_usage:
            yield head.chunk([], usage_of(completions))
        yield "data: [DONE]\n\n"
    except EdgeServerError as error:
        # The status line is gone; clients of this API look for an error among the events.
        yield f"data: {body_of(error).model_dump_json()}\n\n"
    finally:
        asked.cancel()


def assurance_of(completion: Completion) -> Assurance:
    """How far an answer is to be believed."""
    return Assurance(
        confidence=completion.confidence, abstained=completion.abstained, guess=completion.guess or None
    )


def logprobs_of(tokens: Sequence[Token], spell: Spell | None) -> Logprobs | None:
    """How likely language tokens were; None where nobody asked."""
    if spell is None:
        return None
    return Logprobs(
        content=[
            SaidToken(
                **_top(token.token_id, token.logprob, spell),
                top_logprobs=[TopToken(**_top(*other, spell)) for other in token.alternatives],
            )
            for token in tokens
        ]
    )


def _top(token_id: int, logprob: float, spell: Spell) -> dict[str, Any]:
    spelled = spell(token_id)
    return {"token": spelled.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(spelled)}


def usage_of(completions: Sequence[Completion]) -> Usage:
    """The prompt counts once, however many answers it has."""
    answers = sum(completion.answer_tokens for completion in completions)
    prompt = completions[0].prompt_tokens
    return Usage(prompt_tokens=prompt, completion_tokens=answers, total_tokens=prompt + answers)
