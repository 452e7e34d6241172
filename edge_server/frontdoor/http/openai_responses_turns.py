"""A request for a response as the chat that it is, and back: what a field of that chat was in the request.

instructions ──▶ messages[0]                    messages[0].content ──▶ instructions
input[2]     ──▶ messages[1]         messages[1].content[0].image_url.url ──▶ input[2].content[0].image_url
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from edge_server.errors import InvalidQuestionError
from edge_server.frontdoor.http.openai_responses_schema import (
    InputFile,
    InputImage,
    InputText,
    ItemPart,
    MessageItem,
    ResponsesRequest,
    SaidText,
    ToolOutput,
)
from edge_server.frontdoor.http.openai_schema import (
    Audio,
    AudioPart,
    ChatRequest,
    ContentPart,
    ImagePart,
    Message,
    TextPart,
    Url,
    VideoPart,
    Wanted,
)

_FIELD = re.compile(r"messages(?:\[(?P<message>\d+)\](?:\.content(?:\[(?P<part>\d+)\](?P<rest>.*))?)?)?")
_MEDIA = re.compile(r"\.(image_url\.url|video_url\.url|input_audio\.data)$")
_NAMES = {"max_completion_tokens": "max_output_tokens", "logprobs": "include"}
_KIND = re.compile(r"data:(image|audio|video)/", re.IGNORECASE)
_ALIKE = frozenset(Wanted.model_fields)
"""What both APIs call the same."""


@dataclass
class Places:
    """Where each message of a chat stood in the request that it was made of.

    Attributes:
        contents: of each message, its text or the list of its parts.
        media: of a part whose media is called otherwise here, its path within the part.
    """

    contents: list[str] = field(default_factory=list)
    media: dict[tuple[int, int], str] = field(default_factory=dict)

    def words(self, name: str) -> str:
        """What the client calls a field of the chat."""
        found = _FIELD.fullmatch(name)
        if found is None:
            return _NAMES.get(name, name)
        if found["message"] is None:
            return "input"
        number = int(found["message"])
        place = self.contents[number]
        if found["part"] is None:
            return place
        part = int(found["part"])
        media = self.media.get((number, part))
        rest = found["rest"] if media is None else _MEDIA.sub(f".{media}", found["rest"])
        return f"{place}[{part}]{rest}"


def chat_of(body: ResponsesRequest) -> tuple[ChatRequest, Places]:
    """The chat that a request is.

    Returns:
        The chat, and where what it holds stood.

    Raises:
        InvalidQuestionError: it shows what is elsewhere; names the field.
    """
    places = Places()
    messages: list[Message] = []
    if body.instructions:
        places.contents.append("instructions")
        messages.append(Message(role="system", content=body.instructions))
    if isinstance(body.input, str):
        places.contents.append("input")
        messages.append(Message(role="user", content=body.input))
    else:
        for number, item in enumerate(body.input):
            if isinstance(item, MessageItem):
                if item.role == "assistant" and not item.content:
                    continue  # Agents end what they send with a turn that is to be filled.
                places.contents.append(f"input[{number}].content")
                made = _message(item.role, item.content, places)
            elif isinstance(item, ToolOutput):
                places.contents.append(f"input[{number}].output")
                made = _message("tool", item.output, places)
            else:
                continue
            messages.append(made)
    if not messages:
        raise InvalidQuestionError("input", "holds no user message; one of them asks the question")
    alike = {name: getattr(body, name) for name in _ALIKE}
    chat = ChatRequest.model_construct(
        **alike,
        messages=messages,
        max_completion_tokens=body.max_output_tokens,
        logprobs=body.wants_logprobs,
    )
    return chat, places


def _message(
    role: Literal["user", "assistant", "system", "developer", "tool"],
    content: str | Sequence[ItemPart],
    places: Places,
) -> Message:
    if isinstance(content, str):
        return Message(role=role, content=content)
    message = len(places.contents) - 1
    found = []
    for index, part in enumerate(content):
        place = f"{places.contents[message]}[{index}]"
        made, media = _part(part, place)
        if media:
            places.media[message, index] = media
        found.append(made)
    return Message(role=role, content=found)


def _part(part: ItemPart, place: str) -> tuple[ContentPart, str]:
    """A part as chats have it, and what its media is called here; empty: as there."""
    match part:
        case InputText() | SaidText():
            return TextPart(type="text", text=part.text), ""
        case InputImage():
            url = _here(part, part.image_url, f"{place}.image_url")
            return ImagePart(type="image_url", image_url=Url(url=url), window=part.window), "image_url"
        case InputFile():
            return _file(part, place), "file_data"
        case _:
            return part, ""


def _file(part: InputFile, place: str) -> ContentPart:
    if part.file_url is not None:
        raise InvalidQuestionError(
            f"{place}.file_url", "is elsewhere: this server fetches nothing; send file_data"
        )
    url = _here(part, part.file_data, f"{place}.file_data")
    kind = _KIND.match(url)
    match kind and kind[1].lower():
        case "image":
            return ImagePart(type="image_url", image_url=Url(url=url), window=part.window)
        case "audio":
            # The data URL says what format it is of.
            heard = Audio(data=url, format="wav")
            return AudioPart(type="input_audio", input_audio=heard, window=part.window)
        case "video":
            return VideoPart(type="video_url", video_url=Url(url=url), window=part.window)
        case _:
            raise InvalidQuestionError(
                f"{place}.file_data",
                f"starts with {url[:24]!r}; a data URL of a sound, a video or an image is needed here: "
                "data:audio/..., data:video/... or data:image/...",
            )


def _here(part: InputImage | InputFile, data: str | None, place: str) -> str:
    """What a part holds itself."""
    if part.file_id is not None:
        name = place.rpartition(".")[0]
        raise InvalidQuestionError(
            f"{name}.file_id",
            "names a file that was sent before; nothing is kept here, send it as a data URL",
        )
    if data is None:
        raise InvalidQuestionError(place, "is missing; send a data URL")
    return data
