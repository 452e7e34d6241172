"""JSON of what ``POST /v1/responses`` answers: the response, and the events of one that is streamed.

Source: as :mod:`edge_server.frontdoor.http.openai_responses_schema`. Clients of this API check what they get
more strictly than those of chats: fields that say nothing here are there all the same.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import BaseModel, RootModel

from edge_server.frontdoor.http.errors import ErrorDetail
from edge_server.frontdoor.http.openai_schema import Assurance, SaidToken, WindowAnswer
from edge_server.frontdoor.http.rest_schema import SceneShownPart, ShownPart


class OutputText(BaseModel):
    """The text of an answer."""

    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[None] = []
    logprobs: list[SaidToken] = []


class OutputMessage(BaseModel):
    """An answer."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    status: Literal["in_progress", "completed", "incomplete"]
    content: list[OutputText]


class InputDetails(BaseModel):
    """Of the tokens that were read: nothing is kept, so that each was read anew."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputDetails(BaseModel):
    """Of the tokens that were said: each is of the answer."""

    reasoning_tokens: int = 0


class ResponseUsage(BaseModel):
    """Language tokens and positions that a question took."""

    input_tokens: int
    input_tokens_details: InputDetails = InputDetails()
    output_tokens: int
    output_tokens_details: OutputDetails = OutputDetails()
    total_tokens: int


class IncompleteDetails(BaseModel):
    """Why an answer ends before its end."""

    reason: Literal["max_output_tokens"] = "max_output_tokens"


class FailedResponse(BaseModel):
    """Why there is no answer."""

    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str


class PlainText(BaseModel):
    """That answers are text."""

    type: Literal["text"] = "text"


class TextAnswer(BaseModel):
    """What answers are like."""

    format: PlainText = PlainText()
    verbosity: Literal["medium"] = "medium"


class NoReasoning(BaseModel):
    """That nothing is thought over first."""

    effort: None = None
    summary: None = None


class ModelResponse(BaseModel):
    """An answer as a whole, or what is known of it so far."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    completed_at: int | None = None
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    error: FailedResponse | None = None
    incomplete_details: IncompleteDetails | None = None
    model: str
    output: list[OutputMessage] = []
    usage: ResponseUsage | None = None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: None = None
    metadata: dict[str, str]
    temperature: float
    top_p: float
    presence_penalty: float
    frequency_penalty: float
    top_logprobs: int
    tools: list[None] = []
    tool_choice: Literal["none", "auto"]
    parallel_tool_calls: bool
    text: TextAnswer = TextAnswer()
    reasoning: NoReasoning = NoReasoning()
    truncation: Literal["auto", "disabled"]
    previous_response_id: None = None
    conversation: None = None
    prompt: None = None
    prompt_cache_key: None = None
    background: Literal[False] = False
    store: Literal[False] = False
    service_tier: Literal["default"] = "default"
    user: str | None
    safety_identifier: str | None
    assurance: Assurance | None = None
    """How far the answer is to be believed; an extension, as all that follows."""
    window: ShownPart | None = None
    """Which part of a recording it is about."""
    windows: list[WindowAnswer] | None = None
    """With `every`: the answer about each window, of which the text is a list."""
    scenes: list[SceneShownPart] | None = None
    """Of a question about scenes: what it was answered from."""
    warnings: list[str] | None = None
    """Fields of the request that had no effect."""


State: TypeAlias = Literal[
    "response.created",
    "response.in_progress",
    "response.completed",
    "response.incomplete",
    "response.failed",
]
ItemStep: TypeAlias = Literal["response.output_item.added", "response.output_item.done"]
PartStep: TypeAlias = Literal["response.content_part.added", "response.content_part.done"]


class _Event(BaseModel):
    """A step on the way to an answer."""

    sequence_number: int


class StateEvent(_Event):
    """How the whole stands."""

    type: State
    response: ModelResponse


class ItemEvent(_Event):
    """A message begins, or has ended."""

    type: ItemStep
    output_index: int = 0
    item: OutputMessage


class _OfTheText(_Event):
    item_id: str
    output_index: int = 0
    content_index: int = 0


class PartEvent(_OfTheText):
    """A text begins, or has ended."""

    type: PartStep
    part: OutputText


class TextDelta(_OfTheText):
    """A further piece of the text."""

    type: Literal["response.output_text.delta"] = "response.output_text.delta"
    delta: str
    logprobs: list[SaidToken] = []
    windows: list[WindowAnswer] | None = None
    """With `every`: the answer about the window that this piece adds; an extension."""


class TextDone(_OfTheText):
    """All of the text."""

    type: Literal["response.output_text.done"] = "response.output_text.done"
    text: str
    logprobs: list[SaidToken] = []


class ErrorEvent(_Event):
    """Why no more comes."""

    type: Literal["error"] = "error"
    code: str | None
    message: str
    param: str | None
    error: ErrorDetail
    """The same once more: openai-python raises what stands here, and hands on what stands beside it."""


Event: TypeAlias = StateEvent | ItemEvent | PartEvent | TextDelta | TextDone | ErrorEvent


class ResponseEvent(RootModel[Event]):
    """One event of a streamed answer."""
