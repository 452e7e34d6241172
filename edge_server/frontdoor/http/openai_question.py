"""A chat's conversation as one question, in the words of whoever sent it.

The text of the last user message asks, all text before it is context, and the media of all user messages is
shown, at most one of each modality. A model that tells turns apart is given them as they are, with all that
they show. A refusal names the field that the client sent, whatever it became here.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from edge_server.engine.ports import Role
from edge_server.errors import InvalidQuestionError, TextTooLongError
from edge_server.frontdoor.http.asking import RestQuestion
from edge_server.frontdoor.http.history import History
from edge_server.frontdoor.http.openai_honoured import check_honoured
from edge_server.frontdoor.http.openai_schema import (
    AudioPart,
    ChatRequest,
    ContentPart,
    ImagePart,
    Message,
    RefusalPart,
    SceneContentPart,
    TextPart,
)
from edge_server.frontdoor.http.turns import RestTurn
from edge_server.frontdoor.ports import RawMedia
from edge_server.frontdoor.scene_blocks import SceneAsked
from protos.names import MediaModality

Words: TypeAlias = Callable[[str], str]
"""What the client calls a field of a chat: the same, unless it sent something else that was made into one."""

# Parameters may hold commas, as in ";codecs=vp8,opus"; their number and size is bounded.
_DATA_URL = re.compile(
    r"data:(?:(?P<kind>[a-z]{1,32})/[a-z0-9.+-]{1,64})?(?:;[^;]{1,128}){0,8}?;base64,", re.IGNORECASE
)


@dataclass(frozen=True)
class ChatRules:
    """What the OpenAI door keeps to.

    Attributes:
        max_new_tokens: longest answer there is; who allows a longer one gets one that ends there.
        max_choices: most answers that one request may ask for.
        max_windows: most windows of its media that one request may ask about.
        leave_out_oldest: of a conversation that does not fit, the oldest turns are left out; else it is
            refused.
    """

    max_new_tokens: int
    max_choices: int = 8
    max_windows: int = 64
    leave_out_oldest: bool = False


CONTEXT_LENGTH = "context_length_exceeded"
"""Code of :class:`ContextLengthError`."""


class ContextLengthError(InvalidQuestionError):
    """A conversation that does not fit the model, as clients of OpenAI's API look for it."""


_INSTRUCT = ("system", "developer")
"""Roles whose turns are kept however long a conversation becomes."""
_FIELDS = {
    "question": "messages[{asking}].content",
    "question_ids": "messages[{asking}].content",
    "context": "messages",
    "context_ids": "messages",
    "turns": "messages",
    "media": "messages",
    "scenes": "messages",
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
    if body.every and (choices > 1 or body.logprobs):
        raise InvalidQuestionError("every", "gives one answer for each window: leave out n and logprobs")
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
        scenes=tuple(_scenes(body.messages)),
        max_new_tokens=min(body.new_tokens, rules.max_new_tokens),
        whole=not body.stream,
        sampling=body.sampling,
        stop=body.stops,
        tokens=bool(body.logprobs),
        choices=choices,
    )


def in_words(question: RestQuestion, words: Words) -> RestQuestion:
    """The same question, where what it shows is called as the client called it."""
    media = (
        replace(
            part,
            field=words(part.field),
            window=part.window and replace(part.window, field=words(part.window.field)),
        )
        for part in question.media
    )
    scenes = (replace(scene, field=words(scene.field)) for scene in question.scenes)
    return replace(question, media=tuple(media), scenes=tuple(scenes))


def refusal_of(error: InvalidQuestionError, asking: int, words: Words) -> InvalidQuestionError:
    """A refusal of what a conversation became here, as one of what the client sent.

    Args:
        error: names a field of a question.
        asking: number of the message that asks.
        words: what the client calls a field of a chat.
    """
    if isinstance(error, TextTooLongError):
        return _context_length(error, asking, words)
    field = words(_FIELDS.get(error.field, error.field).format(asking=asking))
    return type(error)(field, str(error).removeprefix(error.field).lstrip(": "))


def _context_length(error: TextTooLongError, asking: int, words: Words) -> ContextLengthError:
    """That a text does not fit, in both numbers."""
    field = _FIELDS.get(error.field, "messages").format(asking=asking)
    what = "messages before the last one" if field == "messages" else "last message"
    return ContextLengthError(
        words(field),
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
            if isinstance(part, SceneContentPart):
                continue  # shown by itself, and no medium of this request
            pieces.append(part.text.strip() if isinstance(part, TextPart | RefusalPart) else next(places))
        yield RestTurn(_ROLES.get(message.role, "user"), tuple(each for each in pieces if each != ""))


def _scenes(messages: list[Message]) -> list[SceneAsked]:
    scenes = []
    for number, message in enumerate(messages):
        for index, part in enumerate(message.content if isinstance(message.content, list) else ()):
            if not isinstance(part, SceneContentPart):
                continue
            field = f"messages[{number}].content[{index}].scene"
            if message.role != "user":
                raise InvalidQuestionError(field, f"is media of the {message.role}; only users show media")
            scenes.append(part.scene.asked(field))
    return scenes


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
    if isinstance(part, TextPart | RefusalPart | SceneContentPart):
        return None
    if isinstance(part, AudioPart):
        data, where = part.input_audio.data, f"{field}.input_audio.data"
        # OpenAI's is base64 alone; what takes the place of its models is sent data URLs too.
        found = (
            _from_url(data, "audio", where) if data[:5].lower() == "data:" else RawMedia("audio", data, where)
        )
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
