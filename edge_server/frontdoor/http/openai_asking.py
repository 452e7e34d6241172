"""A chat's question put to the engine: what both of OpenAI's APIs do here, whatever they call it.

ChatRequest ─question_of─▶ RestQuestion ─Asker─▶ Begun ─▶ an answer, or one window after the other
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable
from dataclasses import asdict, dataclass, replace

from fastapi import Request

from edge_server.cell import Limits
from edge_server.errors import InvalidQuestionError
from edge_server.frontdoor.http.asking import (
    Asked,
    Asker,
    peer_of,
    traceparent_of,
    user_of,
    while_connected,
)
from edge_server.frontdoor.http.every import about_every
from edge_server.frontdoor.http.openai_answers import Head, completion_of, completions_of
from edge_server.frontdoor.http.openai_every import Part, all_of, whole
from edge_server.frontdoor.http.openai_question import ChatRules, Words, in_words, question_of, refusal_of
from edge_server.frontdoor.http.openai_schema import ChatCompletion, ChatRequest
from edge_server.frontdoor.http.rest_schema import SceneShownPart
from edge_server.frontdoor.http.spool import with_files
from edge_server.frontdoor.ports import RawMedia

STREAMED = {
    "Cache-Control": "no-cache",
    # nginx, and what is made of it, would hand on an answer only as a whole.
    "X-Accel-Buffering": "no",
}
"""Headers of an answer that comes in events."""


@dataclass(frozen=True)
class Door:
    """What answers come from, and are made with.

    Attributes:
        asker: brings questions to the engine.
        rules: what is kept to.
        limits: on what each API key may ask.
        wall_clock: seconds since the Unix epoch.
        new_id: makes ids of answers.
    """

    asker: Asker
    rules: ChatRules
    limits: Limits
    wall_clock: Callable[[], float]
    new_id: Callable[[], str]


@dataclass(frozen=True)
class Begun:
    """A chat's question that the engine accepted.

    Attributes:
        asked: it; of one about every window, about the first.
        first: the answer about the first window; None: it is not about every window.
        more: those about the others.
        wants_tokens: how likely its language tokens were is wanted.
    """

    asked: Asked
    first: Part | None = None
    more: AsyncGenerator[Part] | None = None
    wants_tokens: bool = False

    @property
    def spell(self) -> Callable[[int], bytes] | None:
        """The bytes of a language token; None where nobody wants any."""
        return self.asked.spell if self.wants_tokens else None

    def head(self, answer_id: str, created: int, warnings: list[str]) -> Head:
        """What all of its answers say."""
        scenes = [SceneShownPart(**asdict(facts)) for facts in self.asked.scenes] or None
        return Head(answer_id, created, self.asked.model, warnings or None, scenes)

    async def answer(self, request: Request, head: Head) -> ChatCompletion:
        """To its end; one whose client goes away ends with it."""
        if self.first is not None and self.more is not None:
            return whole(head, await while_connected(request, all_of([self.first], self.more)))
        try:
            completions = await while_connected(request, completions_of(self.asked))
        finally:
            self.asked.cancel()
        return completion_of(head, self.asked, completions, self.spell)

    async def close(self) -> None:
        """Take back what is under way; harmless after its end."""
        if self.more is not None:
            await self.more.aclose()
        self.asked.cancel()


async def begun(door: Door, body: ChatRequest, request: Request, words: Words = str) -> Begun:
    """Ask what a chat asks.

    Args:
        door: where it was sent.
        body: the chat.
        request: that brought it.
        words: what the client calls a field of the chat.

    Raises:
        EdgeServerError: the question was not accepted; names the field that the client sent.
    """
    asking = len(body.messages) - 1
    backend = door.asker.named(body.model)
    try:
        user = user_of(request, body.safety_identifier or body.user)
        question = in_words(question_of(body, user, door.rules), words)
        question = replace(question, peer=peer_of(request), backend=backend)
        question = replace(question, media=with_files(request.scope, question.media))

        async def part(media: tuple[RawMedia, ...]) -> Part:
            asked = await door.asker.ask(replace(question, media=media), traceparent_of(request))
            try:
                return Part(asked, await asked.stream.completion())
            finally:
                asked.cancel()

        if body.every:
            count = functools.partial(door.limits.spend, peer_of(request), questions=1)
            parts = about_every(part, question.media, count, door.rules.max_windows)
            first = await while_connected(request, anext(parts))
            return Begun(first.asked, first, parts)
        asked = await while_connected(request, door.asker.ask(question, traceparent_of(request)))
    except InvalidQuestionError as error:
        raise refusal_of(error, asking, words) from error
    return Begun(asked, wants_tokens=bool(body.logprobs))
