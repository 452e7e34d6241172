"""``/v1/responses``: OpenAI's Responses API, a second face of its chat API.

A request is made into the chat that it is, asked as one, and its answer told in this API's words. Nothing is
kept from one request to the next: what is named by an id is refused, or not there.
"""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from edge_server.errors import NotFoundError
from edge_server.frontdoor.http.errors import response_of
from edge_server.frontdoor.http.openai_asking import STREAMED, Door, begun
from edge_server.frontdoor.http.openai_honoured import told_in_header
from edge_server.frontdoor.http.openai_question import CONTEXT_LENGTH, ContextLengthError
from edge_server.frontdoor.http.openai_responses_answers import Response as OnItsWay
from edge_server.frontdoor.http.openai_responses_answers import opened
from edge_server.frontdoor.http.openai_responses_body import ModelResponse, ResponseEvent
from edge_server.frontdoor.http.openai_responses_events import events_of
from edge_server.frontdoor.http.openai_responses_honoured import check_honoured, ignored
from edge_server.frontdoor.http.openai_responses_schema import ResponsesRequest
from edge_server.frontdoor.http.openai_responses_turns import chat_of
from edge_server.frontdoor.http.openai_schema import schema_of

_KEPT = (
    ("GET", "/v1/responses/{response_id}"),
    ("DELETE", "/v1/responses/{response_id}"),
    ("POST", "/v1/responses/{response_id}/cancel"),
    ("GET", "/v1/responses/{response_id}/input_items"),
)
"""What OpenAI has for responses that it keeps."""


_ELSEWHERE = ("/v1/responses/compact", "/v1/responses/input_tokens")
"""What else OpenAI has below the path of responses: told as what is not there, not as somebody's id."""


def build_router(door: Door) -> APIRouter:
    """The routes of this door.

    Args:
        door: what they open on.
    """
    router = APIRouter(tags=["openai"])

    @router.post(
        "/v1/responses",
        response_model=ModelResponse,
        responses={200: {"content": {"text/event-stream": {"schema": schema_of(ResponseEvent)}}}},
    )
    async def responses(
        body: ResponsesRequest, request: Request, response: Response
    ) -> ModelResponse | StreamingResponse | JSONResponse:
        """Ask, in the words of OpenAI's Responses API: ``input_text``, ``input_image``, ``input_audio``."""
        check_honoured(body)
        chat, places = chat_of(body)
        truncates = body.truncation == "auto" if body.truncation else door.rules.leave_out_oldest
        rules = replace(door.rules, leave_out_oldest=truncates)
        try:
            asked = await begun(replace(door, rules=rules), chat, request, places.words)
        except ContextLengthError as error:
            return response_of(error, code=CONTEXT_LENGTH)
        left_out = [places.words(f"messages[{number}].content") for number in asked.asked.left_out]
        warnings = ignored(body, left_out)
        head = asked.head(f"resp_{door.new_id()}", int(door.wall_clock()), warnings)
        headers = told_in_header(warnings)
        made = OnItsWay(opened(body, head, truncates=truncates), f"msg_{door.new_id()}", door.wall_clock)
        if body.stream:
            events = events_of(made, asked, head, places.words)
            return StreamingResponse(events, media_type="text/event-stream", headers=headers | STREAMED)
        response.headers.update(headers)
        return made.done(await asked.answer(request, head))

    async def not_kept(response_id: str) -> None:
        raise NotFoundError(
            "response_id",
            f"response_id: there is no response {response_id[:64]!r}; nothing is kept here, a response comes "
            "whole with its request",
        )

    async def elsewhere() -> None:
        raise HTTPException(404)

    for path in _ELSEWHERE:
        router.add_api_route(path, elsewhere, methods=["POST"], include_in_schema=False)
    for method, path in _KEPT:
        router.add_api_route(path, not_kept, methods=[method], include_in_schema=False)
    return router
