"""Answers in the words of OpenAI's Responses API: a chat's answer as a response."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge_server.errors import EdgeServerError
from edge_server.frontdoor.http.openai_answers import Head
from edge_server.frontdoor.http.openai_responses_body import (
    FailedResponse,
    IncompleteDetails,
    ModelResponse,
    OutputMessage,
    OutputText,
    ResponseUsage,
)
from edge_server.frontdoor.http.openai_responses_schema import ResponsesRequest
from edge_server.frontdoor.http.openai_schema import ChatCompletion
from edge_server.frontdoor.status import status_of


@dataclass(frozen=True)
class Response:
    """A response that is on its way.

    Attributes:
        opened: what is known of it before there is an answer.
        message_id: of the message in it.
        wall_clock: seconds since the Unix epoch.
    """

    opened: ModelResponse
    message_id: str
    wall_clock: Callable[[], float]

    def done(self, chat: ChatCompletion) -> ModelResponse:
        """With a chat's answer."""
        (choice,) = chat.choices
        cut = choice.finish_reason == "length"
        status: str = "incomplete" if cut else "completed"
        logprobs = [] if choice.logprobs is None else choice.logprobs.content
        message = self.message(status, OutputText(text=choice.message.content, logprobs=logprobs))
        usage = ResponseUsage(
            input_tokens=chat.usage.prompt_tokens,
            output_tokens=chat.usage.completion_tokens,
            total_tokens=chat.usage.total_tokens,
        )
        return self.opened.model_copy(
            update={
                "status": status,
                "completed_at": None if cut else int(self.wall_clock()),
                "incomplete_details": IncompleteDetails() if cut else None,
                "output": [message],
                "usage": usage,
                "assurance": choice.assurance,
                "window": chat.window,
                "windows": chat.windows,
            }
        )

    def failed(self, error: EdgeServerError) -> ModelResponse:
        """With why there is none."""
        http = status_of(error).http
        code = "rate_limit_exceeded" if http == 429 else "server_error" if http >= 500 else "invalid_prompt"
        failure = FailedResponse.model_validate({"code": code, "message": str(error)})
        return self.opened.model_copy(update={"status": "failed", "error": failure})

    def message(self, status: str, *content: OutputText) -> OutputMessage:
        """The message in it."""
        return OutputMessage.model_validate(
            {"id": self.message_id, "status": status, "content": list(content)}
        )


def opened(body: ResponsesRequest, head: Head, *, truncates: bool) -> ModelResponse:
    """What is known of a response before there is an answer: what the request said, as it is meant here.

    Args:
        body: the request.
        head: what all of its answers say.
        truncates: the oldest turns may be left out.
    """
    extra = body.model_extra or {}
    return ModelResponse(
        id=head.id,
        created_at=head.created,
        status="in_progress",
        model=head.model,
        instructions=body.instructions,
        max_output_tokens=body.max_output_tokens,
        metadata=body.metadata or {},
        temperature=body.temperature or 0.0,
        top_p=1.0 if body.top_p is None else body.top_p,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        top_logprobs=body.top_logprobs or 0,
        tool_choice="none" if extra.get("tool_choice") == "none" else "auto",
        parallel_tool_calls=extra.get("parallel_tool_calls") is not False,
        truncation="auto" if truncates else "disabled",
        user=body.user,
        safety_identifier=body.safety_identifier,
        scenes=head.scenes,
        warnings=head.warnings,
    )
