"""The OpenAI door: ``/v1/chat/completions`` and ``/v1/models`` for clients that speak nothing else.

OpenAI's Responses API is beside it (:mod:`edge_server.frontdoor.http.openai_responses`); both ask in one way
(:mod:`edge_server.frontdoor.http.openai_asking`).
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.convertors import Convertor, register_url_convertor

from edge_server.frontdoor.http.errors import response_of
from edge_server.frontdoor.http.openai_answers import events_of
from edge_server.frontdoor.http.openai_asking import STREAMED, Door, begun
from edge_server.frontdoor.http.openai_every import events_of_parts
from edge_server.frontdoor.http.openai_honoured import ignored, told_in_header
from edge_server.frontdoor.http.openai_question import CONTEXT_LENGTH, ContextLengthError
from edge_server.frontdoor.http.openai_schema import (
    ChatChunk,
    ChatCompletion,
    ChatRequest,
    ModelCard,
    ModelList,
    schema_of,
)


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


def build_router(door: Door) -> APIRouter:
    """The routes of this door.

    Args:
        door: what they open on.
    """
    router = APIRouter(tags=["openai"])
    started = int(door.wall_clock())

    @router.get("/v1/models")
    async def models() -> ModelList:
        """The models that are served."""
        return ModelList(
            data=[ModelCard(id=backend.model.name, created=started) for backend in door.asker.newest]
        )

    @router.get("/v1/models/{model_id:whatever}")
    async def model(model_id: str) -> ModelCard:
        """A model that is served, by name."""
        door.asker.named(model_id)
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
        try:
            asked = await begun(door, body, request)
        except ContextLengthError as error:
            return response_of(error, code=CONTEXT_LENGTH)
        warnings = ignored(body, asked.asked.left_out)
        head = asked.head(f"chatcmpl-{door.new_id()}", int(door.wall_clock()), warnings)
        headers = told_in_header(warnings)
        if body.stream:
            include_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
            if asked.first is not None and asked.more is not None:
                events = events_of_parts(asked.first, asked.more, head, include_usage=include_usage)
            else:
                events = events_of(asked.asked, head, asked.spell, include_usage=include_usage)
            return StreamingResponse(events, media_type="text/event-stream", headers=headers | STREAMED)
        response.headers.update(headers)
        return await asked.answer(request, head)

    return router
