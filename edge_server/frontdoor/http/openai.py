"""The OpenAI door: ``/v1/chat/completions`` and ``/v1/models`` for clients that speak nothing else.

A conversation becomes one question: the text of the last user message asks, all text before it is context,
and the media of all user messages is shown, at most one of each modality.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass, replace

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from starlette.convertors import Convertor, register_url_convertor

from edge_server.engine import AnswerStream, Completion, Delta
from edge_server.errors import EdgeServerError, InvalidQuestionError, NotFoundError
from edge_server.frontdoor.http.asking import Asker, RestQuestion, traceparent_of, user_of, while_connected
from edge_server.frontdoor.http.errors import body_of
from edge_server.frontdoor.http.openai_schema import (
    AssistantMessage,
    AudioPart,
    ChatChunk,
    ChatCompletion,
    ChatRequest,
    Choice,
    ChunkChoice,
    ChunkDelta,
    ContentPart,
    ImagePart,
    Message,
    ModelCard,
    ModelList,
    TextPart,
    Usage,
    schema_of,
)
from edge_server.frontdoor.http.rest_schema import ShownPart
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

_DATA_URL = re.compile(r"data:(?P<kind>[a-z]+)/[a-z0-9.+-]+(;[a-z0-9=.+-]+)*;base64,", re.IGNORECASE)


def build_router(asker: Asker, *, wall_clock: Callable[[], float], new_id: Callable[[], str]) -> APIRouter:
    """The routes of this door.

    Args:
        asker: brings questions to the engine.
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
    async def chat(body: ChatRequest, request: Request) -> ChatCompletion | StreamingResponse:
        """Ask, in OpenAI's words: text, ``image_url`` (data URL), ``input_audio``, ``video_url``."""
        _check_model(body.model, asker.backend.model.name)
        question = question_of(body, user_of(request, body.safety_identifier or body.user))
        asked = await while_connected(request, asker.ask(question, traceparent_of(request)))
        head = _Head(f"chatcmpl-{new_id()}", int(wall_clock()), asked.model)
        if body.stream:
            include_usage = body.stream_options is not None and body.stream_options.include_usage
            events = _events(asked.stream, head, include_usage=include_usage)
            return StreamingResponse(
                events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"}
            )
        try:
            completion = await while_connected(request, asked.stream.completion())
        finally:
            asked.stream.cancel()
        return ChatCompletion(
            id=head.id,
            created=head.created,
            model=head.model,
            choices=[
                Choice(
                    message=AssistantMessage(content=completion.text), finish_reason=completion.finish_reason
                )
            ],
            usage=_usage(completion),
            window=None if asked.ready.window is None else ShownPart(**asdict(asked.ready.window)),
        )

    return router


def question_of(body: ChatRequest, user: str) -> RestQuestion:
    """A conversation as one question.

    Raises:
        InvalidQuestionError: it asks for what this server cannot do, or nothing; names the field.
    """
    _refuse_unsupported(body)
    asking = max((index for index, m in enumerate(body.messages) if m.role == "user"), default=None)
    if asking is None:
        raise InvalidQuestionError("messages", "holds no user message; one of them asks the question")
    if asking != len(body.messages) - 1:
        raise InvalidQuestionError("messages", "must end with a user message, the one that asks")
    text = _text(body.messages[asking])
    if not text:
        raise InvalidQuestionError(f"messages[{asking}].content", "holds no text; ask something")
    earlier = [_text(message) for message in body.messages[:asking]]
    return RestQuestion(
        text=text,
        user=user,
        context="\n".join(piece for piece in earlier if piece),
        media=tuple(_media(body.messages)),
        max_new_tokens=body.new_tokens,
        whole=not body.stream,
    )


def _refuse_unsupported(body: ChatRequest) -> None:
    if body.n not in (None, 1):
        raise InvalidQuestionError("n", f"is {body.n}; answers are decoded greedily, there is only 1")
    if body.stop:
        raise InvalidQuestionError("stop", "is not supported; leave it out")
    if body.logprobs:
        raise InvalidQuestionError("logprobs", "is not supported; /v1/infer gives the answer's probability")
    if body.tools:
        raise InvalidQuestionError("tools", "is not supported; leave it out")
    if body.response_format is not None and body.response_format.type != "text":
        raise InvalidQuestionError("response_format", f"is {body.response_format.type!r}; allowed: 'text'")


def _text(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content.strip()
    pieces = [part.text.strip() for part in message.content if isinstance(part, TextPart)]
    return "\n".join(piece for piece in pieces if piece)


def _media(messages: list[Message]) -> list[RawMedia]:
    media = []
    for number, message in enumerate(messages):
        if isinstance(message.content, str):
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
    if isinstance(part, TextPart):
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
    if header["kind"].lower() != modality:
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

    def chunk(self, choices: list[ChunkChoice], usage: Usage | None = None) -> str:
        chunk = ChatChunk(id=self.id, created=self.created, model=self.model, choices=choices, usage=usage)
        # Only usage is left out where it is absent: clients read finish_reason null as "goes on".
        return f"data: {chunk.model_dump_json(exclude={'usage'} if usage is None else None)}\n\n"


async def _events(stream: AnswerStream, head: _Head, *, include_usage: bool) -> AsyncIterator[str]:
    try:
        yield head.chunk([ChunkChoice(delta=ChunkDelta(role="assistant", content=""))])
        async for event in stream:
            if isinstance(event, Delta):
                yield head.chunk([ChunkChoice(delta=ChunkDelta(content=event.text))])
            else:
                yield head.chunk([ChunkChoice(delta=ChunkDelta(), finish_reason=event.finish_reason)])
                if include_usage:
                    yield head.chunk([], _usage(event))
        yield "data: [DONE]\n\n"
    except EdgeServerError as error:
        # The status line is gone; clients of this API look for an error among the events.
        yield f"data: {body_of(error).model_dump_json()}\n\n"
    finally:
        stream.cancel()


def _usage(completion: Completion) -> Usage:
    return Usage(
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.answer_tokens,
        total_tokens=completion.prompt_tokens + completion.answer_tokens,
    )
