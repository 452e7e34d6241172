"""JSON of what ``POST /v1/responses`` takes, as OpenAI's clients send it.

Source: OpenAI API reference, "Responses"; ``openai.types.responses`` of openai-python 3.54. Fields that are
not here are taken too: :mod:`edge_server.frontdoor.http.openai_responses_honoured` refuses or tells of them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, JsonValue, Tag

from edge_server.frontdoor.http.openai_schema import (
    MOST_MESSAGES,
    MOST_PARTS,
    PARTS,
    AudioPart,
    RefusalPart,
    SceneContentPart,
    Sent,
    VideoPart,
    Wanted,
    kind_of_content,
)
from edge_server.frontdoor.http.rest_schema import WindowPart, at_most

MOST_ITEMS = MOST_MESSAGES - 1
"""The instructions are a message beside them."""
_MOST_PAIRS, _MOST_KEY_CHARS, _MOST_VALUE_CHARS = 16, 64, 512
"""Of metadata, as OpenAI bounds it: all of it is sent back."""

LOGPROBS = "message.output_text.logprobs"
"""What ``include`` names to be told how likely language tokens were."""


class InputText(Sent):
    """A piece of text."""

    type: Literal["input_text"]
    text: str


class SaidText(Sent):
    """A piece of an answer in a turn before; what else it said of itself changes nothing."""

    type: Literal["output_text"]
    text: str
    annotations: JsonValue = None
    logprobs: JsonValue = None


class InputImage(Sent):
    """An image."""

    type: Literal["input_image"]
    image_url: str | None = None
    """A data URL."""
    file_id: str | None = None
    window: WindowPart | None = None
    """Which part it is about; an extension."""


class InputFile(Sent):
    """A file: here a sound, a video or an image."""

    type: Literal["input_file"]
    file_data: str | None = None
    """A data URL, which says what it is."""
    filename: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    window: WindowPart | None = None
    """Which part it is about; an extension."""


ItemPart: TypeAlias = Annotated[
    InputText | SaidText | RefusalPart | InputImage | AudioPart | InputFile | VideoPart | SceneContentPart,
    Field(discriminator="type"),
]

Content: TypeAlias = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[ItemPart], at_most(MOST_PARTS, "parts"), Tag(PARTS)],
    Discriminator(kind_of_content),
]


class MessageItem(Sent):
    """One turn, or an answer that comes back as one."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Content
    id: str | None = None
    status: str | None = None
    phase: str | None = None


class ToolOutput(Sent):
    """What a tool said in a turn before: text of the conversation."""

    type: Literal["function_call_output", "custom_tool_call_output", "local_shell_call_output"]
    output: Content
    id: str | None = None
    call_id: str | None = None
    status: str | None = None


class PassedOver(Sent):
    """What models and tools of others did in turns before; it has no effect, and that is told."""

    type: Literal[
        "reasoning",
        "function_call",
        "custom_tool_call",
        "file_search_call",
        "web_search_call",
        "code_interpreter_call",
        "image_generation_call",
        "computer_call",
        "computer_call_output",
        "local_shell_call",
        "shell_call",
        "shell_call_output",
        "apply_patch_call",
        "apply_patch_call_output",
        "mcp_list_tools",
        "mcp_call",
        "mcp_approval_request",
        "mcp_approval_response",
        "tool_search_call",
        "tool_search_output",
        "additional_tools",
        "configuration_update",
        "program",
        "program_output",
    ]


class ItemReference(Sent):
    """An item that was sent before, by its id: refused, nothing is kept here."""

    type: Literal["item_reference"] = "item_reference"
    id: str


def _named(value: Any) -> Any:
    """With its type, which messages and references may leave out."""
    if not isinstance(value, dict) or value.get("type") is not None:
        return value
    return {**value, "type": "item_reference" if "id" in value and "role" not in value else "message"}


Item: TypeAlias = Annotated[
    MessageItem | ToolOutput | PassedOver | ItemReference,
    Field(discriminator="type"),
    BeforeValidator(_named),
]


class TextFormat(Sent):
    """How an answer is written."""

    type: str = "text"


class TextOptions(Sent):
    """What an answer is like."""

    format: TextFormat | None = None


class ResponseStreamOptions(Sent):
    """How an answer is streamed: nothing of it has an effect here."""


_Key: TypeAlias = Annotated[str, Field(max_length=_MOST_KEY_CHARS)]
_Value: TypeAlias = Annotated[str, Field(max_length=_MOST_VALUE_CHARS)]


class ResponsesRequest(Wanted):
    """A request for a response."""

    input: Annotated[
        Annotated[str, Tag("text")]
        | Annotated[
            list[Item],
            Field(fail_fast=True),
            at_most(MOST_ITEMS, "items"),
            Field(min_length=1, max_length=MOST_ITEMS),
            Tag(PARTS),
        ],
        Discriminator(kind_of_content),
    ]
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    metadata: (
        Annotated[dict[_Key, _Value], at_most(_MOST_PAIRS, "pairs"), Field(max_length=_MOST_PAIRS)] | None
    ) = None
    include: Annotated[list[str], at_most(_MOST_PAIRS, "names"), Field(max_length=_MOST_PAIRS)] | None = None
    stream_options: ResponseStreamOptions | None = None
    text: TextOptions | None = None
    truncation: Literal["auto", "disabled"] | None = None

    @property
    def wants_logprobs(self) -> bool:
        """To be told how likely the language tokens were."""
        return LOGPROBS in (self.include or ())
