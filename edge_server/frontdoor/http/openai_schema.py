"""JSON of ``POST /v1/chat/completions``, as the OpenAI SDK sends and reads it.

Source: OpenAI API reference, "Chat Completions". Fields that are not here are taken too, for
:mod:`edge_server.frontdoor.http.openai_honoured` to refuse or to tell of.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Discriminator, FailFast, Field, JsonValue, Tag

from edge_server.engine import Sampling
from edge_server.frontdoor.http.rest_schema import (
    LogitBias,
    Penalty,
    ScenePart,
    SceneShownPart,
    ShownPart,
    WindowPart,
    at_most,
)
from protos.names import MAX_ALTERNATIVES, MAX_STOP_CHARS, MAX_STOPS, MAX_TEMPERATURE


class Sent(BaseModel):
    """What a client sends; more than is known here is kept."""

    model_config = ConfigDict(extra="allow")


class TextPart(Sent):
    """A piece of text."""

    type: Literal["text"]
    text: str


class RefusalPart(Sent):
    """What a model said in place of an answer, in a turn before."""

    type: Literal["refusal"]
    refusal: str

    @property
    def text(self) -> str:
        """Text of the conversation, as any other."""
        return self.refusal


class Url(Sent):
    """Where media is: here always a data URL."""

    url: str


class ImagePart(Sent):
    """An image."""

    type: Literal["image_url"]
    image_url: Url
    window: WindowPart | None = None
    """Which part it is about; an extension."""


class VideoPart(Sent):
    """A video; an extension that other servers have too."""

    type: Literal["video_url"]
    video_url: Url
    window: WindowPart | None = None
    """Which part it is about; an extension."""


class Audio(Sent):
    """A sound file."""

    data: str
    """Base64 of the file."""
    format: Literal["wav", "mp3"]


class AudioPart(Sent):
    """A sound."""

    type: Literal["input_audio"]
    input_audio: Audio
    window: WindowPart | None = None
    """Which part it is about; an extension."""


class SceneContentPart(Sent):
    """What a device shared; an extension."""

    type: Literal["scene"]
    scene: ScenePart


ContentPart: TypeAlias = Annotated[
    TextPart | RefusalPart | ImagePart | VideoPart | AudioPart | SceneContentPart, Field(discriminator="type")
]


MOST_MESSAGES, MOST_PARTS = 1024, 256

PARTS = "parts"


def kind_of_content(value: Any) -> str:
    """Told apart by what it is, so that a fault within a part is told of that part."""
    return PARTS if isinstance(value, list) else "text"


class Message(Sent):
    """One turn. The last user message asks; everything before it is context."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Annotated[
        Annotated[str | None, Tag("text")]
        | Annotated[list[ContentPart], at_most(MOST_PARTS, "parts"), Tag(PARTS)],
        Discriminator(kind_of_content),
    ] = None


class StreamOptions(Sent):
    """How an answer is streamed."""

    include_usage: bool | None = False


class ResponseFormat(Sent):
    """How an answer is written."""

    type: str = "text"


Stop: TypeAlias = Annotated[str, Field(max_length=MAX_STOP_CHARS)]


class Wanted(Sent):
    """How an answer is wanted, in the words of both of OpenAI's APIs."""

    model: str
    stream: bool | None = False
    user: Annotated[str, Field(max_length=128)] | None = None
    safety_identifier: Annotated[str, Field(max_length=128)] | None = None
    temperature: Annotated[float, Field(ge=0, le=MAX_TEMPERATURE)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] | None = None
    stop: Annotated[Stop | list[Stop] | None, at_most(MAX_STOPS, "texts")] = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_ALTERNATIVES)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: LogitBias | None = None
    every: bool | None = False
    """Ask about one window of the media after the other, to its end; an extension."""

    @property
    def draws_in_vain(self) -> bool:
        """``top_p`` is said, and there is nothing to draw from."""
        return self.top_p not in (None, 1.0) and not self.temperature


class ChatRequest(Wanted):
    """A chat completion request."""

    messages: Annotated[
        list[Message],
        FailFast(),
        at_most(MOST_MESSAGES, "messages"),
        Field(min_length=1, max_length=MOST_MESSAGES),
    ]
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    response_format: ResponseFormat | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = False

    @property
    def sampling(self) -> Sampling:
        """How the answer is decoded: greedily, where no temperature says otherwise."""
        return Sampling(
            temperature=self.temperature or 0.0,
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=self.seed,
            frequency_penalty=self.frequency_penalty or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
            logit_bias=tuple((self.logit_bias or {}).items()),
            alternatives=(self.top_logprobs or 0) if self.logprobs else 0,
        )

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end the answer."""
        if self.stop is None or self.stop == "":
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def new_tokens(self) -> int:
        """Most language tokens of the answer that are wanted; 0: the server's default."""
        return self.max_completion_tokens or self.max_tokens or 0


class Usage(BaseModel):
    """Language tokens and positions that a question took."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TopToken(BaseModel):
    """A language token that might stand in a place."""

    token: str
    logprob: float
    bytes: list[int]


class SaidToken(TopToken):
    """A language token of the answer."""

    top_logprobs: list[TopToken]


class Logprobs(BaseModel):
    """How likely the answer's language tokens were to the model."""

    content: list[SaidToken]
    refusal: None = None


class AssistantMessage(BaseModel):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Assurance(BaseModel):
    """How far an answer is to be believed; beyond OpenAI's API."""

    confidence: float | None
    """Probability that it is right, calibrated; of one that was held back, that of `guess`. None: the model
    is not calibrated for answers of this length."""
    abstained: bool
    """The model is not sure: the content says so, and is no answer."""
    guess: str | None
    """The answer that was held back."""


class Choice(BaseModel):
    """An answer."""

    index: int = 0
    message: AssistantMessage
    finish_reason: Literal["stop", "length"]
    logprobs: Logprobs | None = None
    assurance: Assurance


class WindowAnswer(BaseModel):
    """The answer about one window; beyond OpenAI's API."""

    window: ShownPart
    content: str
    finish_reason: Literal["stop", "length"]
    assurance: Assurance


class ChatCompletion(BaseModel):
    """An answer as a whole."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    window: ShownPart | None = None
    """Which part of a recording it is about; an extension."""
    windows: list[WindowAnswer] | None = None
    """With `every`: the answer about each window, of which the content is a list; an extension."""
    scenes: list[SceneShownPart] | None = None
    """Of a question about scenes: what it was answered from; an extension."""
    warnings: list[str] | None = None
    """Fields of the request that had no effect; left out where there are none."""


class ChunkDelta(BaseModel):
    """A further piece of the answer."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChunkChoice(BaseModel):
    """A piece of an answer."""

    index: int = 0
    delta: ChunkDelta
    finish_reason: Literal["stop", "length"] | None = None
    logprobs: Logprobs | None = None
    assurance: Assurance | None = None


class ChatChunk(BaseModel):
    """One event of a streamed answer."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    windows: list[WindowAnswer] | None = None
    """With `every`: the answer about the window that this event adds to the content; an extension."""
    scenes: list[SceneShownPart] | None = None
    """Of the first event, of a question about scenes: what it was answered from; an extension."""
    warnings: list[str] | None = None
    """Of the first event: fields of the request that had no effect; left out where there are none."""


class ModelCard(BaseModel):
    """A model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "tokenlink"


class ModelList(BaseModel):
    """The models that are served, the current one first."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


def schema_of(model: type[BaseModel]) -> dict[str, JsonValue]:
    """JSON schema of a model in one piece.

    Its parts stand where they are used: within an API description, references to the model's own definitions
    would lead nowhere. Not for models that hold themselves.
    """
    schema = model.model_json_schema(ref_template="{model}")
    parts = schema.pop("$defs", {})

    def whole(piece: JsonValue) -> JsonValue:
        if isinstance(piece, list):
            return [whole(each) for each in piece]
        if not isinstance(piece, dict):
            return piece
        if isinstance(name := piece.get("$ref"), str):
            return whole(parts[name])
        return {key: whole(value) for key, value in piece.items()}

    return {key: whole(value) for key, value in schema.items()}
