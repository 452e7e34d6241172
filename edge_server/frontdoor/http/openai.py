"""The OpenAI door: ``/v1/chat/completions`` and ``/v1/models`` for clients that speak nothing else.

A conversation becomes one question: the text of the last user message asks, all text before it is context,
and the media of all user messages is shown, at most one of each modality. A model that tells turns apart is
given them as they are, with all that they show. A refusal names the field that the client sent, whatever it
became here.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.convertors import Convertor, register_url_convertor

from edge_server.engine import Completion, Delta, Token
from edge_server.engine.answer import merged
from edge_server.engine.ports import Role
from edge_server.errors import EdgeServerError, InvalidQuestionError, NotFoundError, TextTooLongError
from edge_server.frontdoor.http.asking import (
    Asked,
    Asker,
    RestQuestion,
    peer_of,
    traceparent_of,
    user_of,
    while_connected,
)
from edge_server.frontdoor.http.errors import body_of, response_of
from edge_server.frontdoor.http.history import History
from edge_server.frontdoor.http.openai_honoured import HEADER, check_honoured, ignored
from edge_server.frontdoor.http.openai_schema import (
    AssistantMessage,
    Assurance,
    AudioPart,
    ChatChunk,
    ChatCompletion,
    ChatRequest,
    Choice,
    ChunkChoice,
    ChunkDelta,
    ContentPart,
    ImagePart,
    Logprobs,
    Message,
    ModelCard,
    ModelList,
    RefusalPart,
    SaidToken,
    TextPart,
    TopToken,
    Usage,
    schema_of,
)
from edge_server.frontdoor.http.rest_schema import ShownPart
from edge_server.frontdoor.http.spool import with_files
from edge_server.frontdoor.http.turns import RestTurn
from edge_server.frontdoor.ports import RawMedia
from protos.names import MediaModality


class _Whatever(Convertor[str]):
    """Any text in a path, slashes and line ends included: a name that is wrong is refused as a name."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        """As it is."""
        return value

    def to_string(self, value: str) -> str:
        """As it is."""
        return value


register_url_convertor("whatever", _Whatever())

# Parameters may hold commas, as in ";codecs=vp8,opus"; their number and size is bounded.
_DATA_URL = re.compile(
    r"data:(?:(?P<kind>[a-z]{1,32})/[a-z0-9.+-]{1,64})?(?:;[^;]{1,128}){0,8}?;base64,", re.IGNORECASE
)


@dataclass(frozen=True)
class ChatRules:
    """What this door keeps to.

    Attributes:
        max_new_tokens: longest answer there is; who allows a longer one gets one that ends there.
        max_choices: most answers that one request may ask for.
        leave_out_oldest: of a conversation that does not fit, the oldest turns are left out; else it is
            refused.
    """

    max_new_tokens: int
    max_choices: int = 8
    leave_out_oldest: bool = False


def build_router(
    asker: Asker, rules: ChatRules, *, wall_clock: Callable[[], float], new_id: Callable[[], str]
) -> APIRouter:
    """The routes of this door.

    Args:
        asker: brings questions to the engine.
        rules: what it keeps to.
        wall_clock: seconds since the Unix epoch.
        new_id: makes ids of answers.
    """
    router = APIRouter(tags=["openai"])
    started = int(wall_clock())

    @router.get("/v1/models")
    async def models() -> ModelList:
        """The model that is served."""
        return ModelList(data=[ModelCard(id=asker.backend.model.name, created=started)])

    @router.get("/v1/models/{model_id:whatever}")
    async def model(model_id: str) -> ModelCard:
        """The model that is served, by name."""
        _check_model(model_id, asker.backend.model.name)
        return ModelCard(id=model_id, created=started)

    @router.post(
        "/v1/chat/completions",
        response_model=ChatCompletion,
        responses={200: {"content": {"text/event-stream": {"schema": schema_of(ChatChunk)}}}},
    )
    async def chat(
        body: ChatRequest, request: Request, response: Response
    ) -> ChatCompletion | StreamingResponse | JSONResponse:
        """Ask, in OpenAI's words: text, ``image_url`` (data URL), ``input_audio``, ``video_url``."""
        _check_model(body.model, asker.backend.model.name)
        user = user_of(request, body.safety_identifier or body.user)
        question = replace(question_of(body, user, rules), peer=peer_of(request))
        question = replace(question, media=with_files(request.scope, question.media))
        try:
            asked = await while_connected(request, asker.ask(question, traceparent_of(request)))
        except TextTooLongError as error:
            return response_of(_context_length(error, len(body.messages) - 1), code="context_length_exceeded")
        except InvalidQuestionError as error:
            raise _in_their_words(error, len(body.messages) - 1) from error
        warnings = ignored(body, asked.left_out)
        headers = {HEADER: ", ".join(warnings)} if warnings else {}
        head = _Head(f"chatcmpl-{new_id()}", int(wall_clock()), asked.model, warnings or None)
        spell = asked.spell if body.logprobs else None
        if body.stream:
            include_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
            events = _events(asked, head, spell, include_usage=include_usage)
            headers["Cache-Control"] = "no-cache"
            return StreamingResponse(events, media_type="text/event-stream", headers=headers)
        response.headers.update(headers)
        try:
            completions = await while_connected(request, _completions(asked))
        finally:
            asked.cancel()
        return ChatCompletion(
            id=head.id,
            created=head.created,
            model=head.model,
            choices=[
                Choice(
                    index=number,
                    message=AssistantMessage(content=completion.text),
                    finish_reason=completion.finish_reason,
                    logprobs=_logprobs(completion.tokens, spell),
                    assurance=_assurance(completion),
                )
                for number, completion in enumerate(completions)
            ],
            usage=_usage(completions),
            window=None if asked.ready.window is None else ShownPart(**asdict(asked.ready.window)),
            warnings=head.warnings,
        )

    return router


_INSTRUCT = ("system", "developer")
"""Roles whose turns are kept however long a conversation becomes."""
_FIELDS = {
    "question": "messages[{asking}].content",
    "question_ids": "messages[{asking}].content",
    "context": "messages",
    "context_ids": "messages",
    "turns": "messages",
    "media": "messages",
    "max_new_tokens": "max_completion_tokens",
}
"""What a field of a question was in the request."""


def question_of(body: ChatRequest, user: str, rules: ChatRules) -> RestQuestion:
    """A conversation as one question.

    Raises:
        InvalidQuestionError: it asks for what this server cannot do, or nothing; names the field.
    """
    check_honoured(body)
    choices = body.n or 1
    if choices > rules.max_choices:
        raise InvalidQuestionError("n", f"is {choices}; at most {rules.max_choices} answers at once")
    asking = max((index for index, m in enumerate(body.messages) if m.role == "user"), default=None)
    if asking is None:
        raise InvalidQuestionError("messages", "holds no user message; one of them asks the question")
    if asking != len(body.messages) - 1:
        raise InvalidQuestionError("messages", "must end with a user message, the one that asks")
    text = _text(body.messages[asking])
    if not text:
        raise InvalidQuestionError(f"messages[{asking}].content", "holds no text; ask something")
    earlier = body.messages[:asking]
    spare = [number for number, message in enumerate(earlier) if message.role not in _INSTRUCT]
    return RestQuestion(
        text=text,
        user=user,
        history=History(
            tuple(_text(message) for message in earlier), tuple(spare) if rules.leave_out_oldest else ()
        ),
        media=tuple(_media(body.messages)),
        turns=tuple(_turns(body.messages)),
        max_new_tokens=min(body.new_tokens, rules.max_new_tokens),
        whole=not body.stream,
        sampling=body.sampling,
        stop=body.stops,
        tokens=bool(body.logprobs),
        choices=choices,
    )


def _in_their_words(error: InvalidQuestionError, asking: int) -> InvalidQuestionError:
    """A refusal of what a conversation became here, as one of what the client sent."""
    field = _FIELDS.get(error.field, error.field).format(asking=asking)
    return type(error)(field, str(error).removeprefix(error.field).lstrip(": "))


def _context_length(error: TextTooLongError, asking: int) -> InvalidQuestionError:
    """That a text does not fit, as clients of this API look for it."""
    field = _FIELDS.get(error.field, "messages").format(asking=asking)
    what = "messages before the last one" if field == "messages" else "last message"
    return InvalidQuestionError(
        field,
        f"this model's maximum context length is {error.allowed} {error.unit}; the {what} resulted in "
        f"{error.found} {error.unit}; shorten them",
    )


def _text(message: Message) -> str:
    if message.content is None:
        return ""
    if isinstance(message.content, str):
        return message.content.strip()
    pieces = [part.text.strip() for part in message.content if isinstance(part, TextPart | RefusalPart)]
    return "\n".join(piece for piece in pieces if piece)


_ROLES: Mapping[str, Role] = {"system": "system", "developer": "system", "assistant": "assistant"}
"""Whose turn a message is to a chat template; a user's, where it is not said here."""


def _turns(messages: list[Message]) -> Iterator[RestTurn]:
    """Each message as a turn, with the places of what it shows among the media of all."""
    places = itertools.count()
    for message in messages:
        pieces: list[str | int] = []
        if isinstance(message.content, str):
            pieces.append(message.content.strip())
        for part in message.content if isinstance(message.content, list) else ():
            pieces.append(part.text.strip() if isinstance(part, TextPart | RefusalPart) else next(places))
        yield RestTurn(_ROLES.get(message.role, "user"), tuple(each for each in pieces if each != ""))


def _media(messages: list[Message]) -> list[RawMedia]:
    media = []
    for number, message in enumerate(messages):
        if not isinstance(message.content, list):
            continue
        for index, part in enumerate(message.content):
            found = _media_of(part, f"messages[{number}].content[{index}]")
            if found is None:
                continue
            if message.role != "user":
                raise InvalidQuestionError(
                    found.field, f"is media of the {message.role}; only users show media"
                )
            media.append(found)
    return media


def _media_of(part: ContentPart, field: str) -> RawMedia | None:
    if isinstance(part, TextPart | RefusalPart):
        return None
    if isinstance(part, AudioPart):
        found = RawMedia("audio", part.input_audio.data, f"{field}.input_audio.data")
    elif isinstance(part, ImagePart):
        found = _from_url(part.image_url.url, "image", f"{field}.image_url.url")
    else:
        found = _from_url(part.video_url.url, "video", f"{field}.video_url.url")
    return found if part.window is None else replace(found, window=part.window.window(f"{field}.window"))


def _from_url(url: str, modality: MediaModality, field: str) -> RawMedia:
    header = _DATA_URL.match(url)
    if header is None:
        raise InvalidQuestionError(
            field,
            f"starts with {url[:24]!r}; only data URLs (data:{modality}/...;base64,...) are taken: "
            "this server fetches nothing from elsewhere",
        )
    # Browsers name no type of files whose ending they do not know.
    if header["kind"] is not None and header["kind"].lower() not in (modality, "application"):
        raise InvalidQuestionError(field, f"is of type {header['kind']}/...; {modality}/... is needed here")
    return RawMedia(modality, url[header.end() :], field)


def _check_model(asked_for: str, served: str) -> None:
    if asked_for != served:
        raise NotFoundError("model", f"model: {asked_for[:128]!r} is not served here; {served!r} is")


@dataclass(frozen=True)
class _Head:
    id: str
    created: int
    model: str
    warnings: list[str] | None

    def first_chunk(self, choices: list[ChunkChoice]) -> str:
        """With what the client is told once."""
        return self._chunk(choices, None, self.warnings)

    def chunk(self, choices: list[ChunkChoice], usage: Usage | None = None) -> str:
        return self._chunk(choices, usage, None)

    def _chunk(self, choices: list[ChunkChoice], usage: Usage | None, warnings: list[str] | None) -> str:
        chunk = ChatChunk(
            id=self.id,
            created=self.created,
            model=self.model,
            choices=choices,
            usage=usage,
            warnings=warnings,
        )
        # Only these are left out where they are absent: clients read finish_reason null as "goes on".
        absent: dict[str, Any] = {
            name: True for name, value in (("usage", usage), ("warnings", warnings)) if value is None
        }
        if all(choice.assurance is None for choice in choices):
            absent["choices"] = {"__all__": {"assurance"}}
        return f"data: {chunk.model_dump_json(exclude=absent)}\n\n"


Spell: TypeAlias = Callable[[int], bytes]
"""The bytes of a language token."""


async def _completions(asked: Asked) -> list[Completion]:
    return [await stream.completion() for stream in asked.streams]


async def _events(
    asked: Asked, head: _Head, spell: Spell | None, *, include_usage: bool
) -> AsyncIterator[str]:
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
                delta, logprobs = ChunkDelta(content=event.text), _logprobs(event.tokens, spell)
                yield head.chunk([ChunkChoice(index=index, delta=delta, logprobs=logprobs)])
            else:
                completions.append(event)
                yield head.chunk(
                    [
                        ChunkChoice(
                            index=index,
                            delta=ChunkDelta(),
                            finish_reason=event.finish_reason,
                            assurance=_assurance(event),
                        )
                    ]
                )
        if include_usage:
            yield head.chunk([], _usage(completions))
        yield "data: [DONE]\n\n"
    except EdgeServerError as error:
        # The status line is gone; clients of this API look for an error among the events.
        yield f"data: {body_of(error).model_dump_json()}\n\n"
    finally:
        asked.cancel()


def _assurance(completion: Completion) -> Assurance:
    return Assurance(
        confidence=completion.confidence, abstained=completion.abstained, guess=completion.guess or None
    )


def _logprobs(tokens: Sequence[Token], spell: Spell | None) -> Logprobs | None:
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


def _usage(completions: Sequence[Completion]) -> Usage:
    """The prompt counts once, however many answers it has."""
    answers = sum(completion.answer_tokens for completion in completions)
    prompt = completions[0].prompt_tokens
    return Usage(prompt_tokens=prompt, completion_tokens=answers, total_tokens=prompt + answers)
