"""JSON of ``POST /v1/infer``, TokenLink's own question over HTTP."""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from edge_server.engine import Priority, Sampling
from edge_server.errors import InvalidQuestionError, QuestionTooLargeError
from edge_server.frontdoor.ports import LinkSettings, MediaWindow
from edge_server.frontdoor.scene_blocks import MAX_SCENES, SceneAsked
from protos.names import (
    DTYPES,
    MAX_ABS_LOGIT_BIAS,
    MAX_ABS_PENALTY,
    MAX_ABS_SNR_DB,
    MAX_DEVICE_CHARS,
    MAX_LOGIT_BIASES,
    MAX_SNR_DB,
    MAX_STOP_CHARS,
    MAX_STOPS,
    MAX_TEMPERATURE,
    MIN_SNR_DB,
    MODALITIES,
    ChannelName,
    CsiName,
    FadingName,
    MediaModality,
    ModalityName,
    PayloadName,
)
from protos.tokenlink.v1 import tokenlink_pb2 as pb

_MOST_PARTS = 4


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class WindowPart(_Part):
    """The part of a recording that is asked about; by itself, its beginning is."""

    start_s: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    """When it begins, after the recording does [s]."""
    end_s: Annotated[float, Field(gt=0, le=2e6)] | None = None
    """When it ends [s]; left out: as much as the model looks at."""

    def window(self, field: str) -> MediaWindow:
        """The same for the ingest.

        Raises:
            InvalidQuestionError: it ends before it begins.
        """
        if self.end_s is not None and self.end_s <= self.start_s:
            raise InvalidQuestionError(f"{field}.end_s", f"is {self.end_s:g}, start_s is {self.start_s:g}")
        return MediaWindow(self.start_s, self.end_s, field)


class MediaPart(_Part):
    """A media file that the server tokenises."""

    type: MediaModality
    """``video`` files bring their sound track along, as audio."""
    data: str
    """Base64 of the file."""
    window: WindowPart | None = None
    """Of a video, an animation or a sound: which part it is about."""


class BlockPart(_Part):
    """A token block, made by a transmitter elsewhere and equalised."""

    modality: ModalityName
    dtype: PayloadName
    shape: tuple[Annotated[int, Field(ge=0, lt=2**32)], Annotated[int, Field(ge=0, lt=2**32)]]
    """token_length, channel_dim."""
    data: str
    """Base64 of the values, little-endian, row-major."""
    scale: float = 0.0
    """Only with int8 and int4: value = scale × integer."""
    crc32: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    """CRC-32 of the values' bytes, checked where given."""
    snr_db: Annotated[float, Field(ge=-MAX_ABS_SNR_DB, le=MAX_ABS_SNR_DB)] = MAX_SNR_DB
    """Es/N0 after equalisation, what the receiver is told [dB]."""

    def payload(self, field: str, most_bytes: int) -> pb.TokenPayload:
        """The same as a message of the contract, so that one codec checks both.

        Args:
            field: where the block stood, as a path.
            most_bytes: that the values of any block may take.

        Raises:
            InvalidQuestionError: ``data`` is not base64.
            QuestionTooLargeError: it is longer than that of any block.
        """
        most_chars = 4 * (most_bytes // 3 + 1)
        if len(self.data) > most_chars:
            raise QuestionTooLargeError(
                f"{field}.data", f"has {len(self.data)} characters; no block takes more than {most_chars}"
            )
        try:
            data = base64.b64decode(self.data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidQuestionError(f"{field}.data", f"is not base64: {error}") from error
        return pb.TokenPayload(
            modality=MODALITIES[self.modality],
            dtype=DTYPES[self.dtype],
            shape=self.shape,
            scale=self.scale,
            data=data,
            crc32=zlib.crc32(data) if self.crc32 is None else self.crc32,
            channel=pb.ChannelReport(effective_snr_db=self.snr_db),
        )


class LinkPart(_Part):
    """The radio link that the server emulates for ``media``."""

    channel: ChannelName = "none"
    """Model of the channel; ``none``: a perfect wire."""
    fading: FadingName = "block"
    """One gain per codeword, or one per symbol."""
    snr_db: Annotated[float, Field(ge=MIN_SNR_DB, le=MAX_SNR_DB)] = 20.0
    """Mean Es/N0 [dB]."""
    bandwidth_hz: Annotated[float, Field(gt=0, le=1e12)] = 1e6
    """Symbols per second."""
    csi: CsiName = "perfect"
    """Whether the receiver knows gains, or estimates them from pilots, which cost channel uses."""
    tx_power_db: Annotated[float, Field(ge=-MAX_ABS_SNR_DB, le=MAX_ABS_SNR_DB)] = 0.0
    """Gain on the energy of every symbol, before the channel [dB]."""
    delay_spread_ns: Annotated[float, Field(ge=0, le=1e5)] = 300.0
    """Of a tapped delay line: root of the mean squared delay [ns]."""
    speed_kmh: Annotated[float, Field(ge=0, le=1e4)] = 3.0
    """Of a tapped delay line: of the device."""
    token_length: Annotated[int, Field(ge=1, le=65_536)] | None = None
    """Tokens per modality; the server's default where it is left out."""
    payload: PayloadName = "float32"
    """What values are rounded to behind the radio, as a device's are."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    """Repeats the same noise."""

    def settings(self) -> LinkSettings:
        """The same for the ingest."""
        return LinkSettings(
            channel=self.channel,
            fading=self.fading,
            snr_db=self.snr_db,
            bandwidth_hz=self.bandwidth_hz,
            csi=self.csi,
            tx_power_db=self.tx_power_db,
            delay_spread_ns=self.delay_spread_ns,
            speed_kmh=self.speed_kmh,
            token_length=self.token_length,
            payload=self.payload,
            seed=self.seed,
        )


Penalty: TypeAlias = Annotated[float, Field(ge=-MAX_ABS_PENALTY, le=MAX_ABS_PENALTY)]
_Bias: TypeAlias = Annotated[float, Field(ge=-MAX_ABS_LOGIT_BIAS, le=MAX_ABS_LOGIT_BIAS)]


def at_most(most: int, what: str) -> BeforeValidator:
    """Refuses longer lists and objects before they are looked at one by one.

    What is wrong with each is told at some expense: of ten thousand, at that of seconds.

    Args:
        most: how many there may be.
        what: they are called.
    """

    def check(value: Any) -> Any:
        if isinstance(value, list | dict) and len(value) > most:
            raise ValueError(f"holds {len(value)} {what}; at most {most}")
        return value

    return BeforeValidator(check)


LogitBias: TypeAlias = Annotated[
    dict[int, _Bias], at_most(MAX_LOGIT_BIASES, "tokens"), Field(max_length=MAX_LOGIT_BIASES)
]


class SamplingPart(_Part):
    """How the answer's language tokens are chosen; by itself, the likeliest ones are."""

    temperature: Annotated[float, Field(ge=0, le=MAX_TEMPERATURE)] = 0.0
    """Logits are divided by it and a token is drawn; 0: the likeliest token is taken."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the probability from which is drawn, the likeliest tokens first."""
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] | None = None
    """Repeats the same draws."""
    frequency_penalty: Penalty = 0.0
    """Taken off a token's logit for each time that the answer has it."""
    presence_penalty: Penalty = 0.0
    """Taken off once, if the answer has it."""
    logit_bias: LogitBias = {}
    """Added to the logits of language tokens, by their ids."""
    stop: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARS)]],
        at_most(MAX_STOPS, "texts"),
        Field(max_length=MAX_STOPS),
    ] = []
    """Texts that end the answer; it is told up to the first of them."""

    def sampling(self) -> Sampling:
        """The same for the engine."""
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            logit_bias=tuple(self.logit_bias.items()),
        )


class ScenePart(_Part):
    """A scene that a device shared."""

    device: Annotated[str, Field(min_length=1, max_length=MAX_DEVICE_CHARS)]
    """Whose: ``DEVICE``, or ``DEVICE/SOURCE`` of one with several."""
    at: str | Annotated[float, Field(ge=-1e10, le=1e12)] = "latest"
    """``latest``; an id; seconds since the Unix epoch; negative: seconds ago; a time (ISO 8601)."""
    modalities: Annotated[list[MediaModality], Field(max_length=_MOST_PARTS)] = []
    """Of its blocks, these; none named: all."""

    def asked(self, field: str) -> SceneAsked:
        """The same for the desk.

        Args:
            field: where it stood, as a path.
        """
        return SceneAsked(self.device, str(self.at), tuple(self.modalities), field)


class InferRequest(SamplingPart):
    """A question about media, token blocks, a text, or nothing but itself."""

    question: str = ""
    """Its text; left out only where a text block carries it."""
    context: str = ""
    """Text that goes with it: a caption, a transcript, notes."""
    media: Annotated[list[MediaPart], at_most(_MOST_PARTS, "files"), Field(max_length=_MOST_PARTS)] = []
    every: bool = False
    """Ask about one window of the media after the other, to its end; the first answer, and ``windows``."""
    blocks: Annotated[list[BlockPart], at_most(_MOST_PARTS, "blocks"), Field(max_length=_MOST_PARTS)] = []
    scenes: Annotated[list[ScenePart], at_most(MAX_SCENES, "scenes"), Field(max_length=MAX_SCENES)] = []
    """What devices shared, in place of media and blocks."""
    link: LinkPart = LinkPart()
    model: Annotated[str, Field(max_length=128)] = ""
    """Of those that are served, by name; left out: the first, or the one that the scenes were made for."""
    max_new_tokens: Annotated[int, Field(ge=0, le=2**31)] = 0
    """0: the server's default."""
    deadline_s: Annotated[float, Field(ge=0, le=86_400)] = 0.0
    """Seconds within which an answer is of use; 0: the server's default."""
    priority: Priority = "interactive"
    """``background``: nobody waits for the answer; it gets a small share while others wait."""
    user: Annotated[str, Field(max_length=128)] | None = None
    """Whom it counts for; the client's address where it is left out."""


class CostPart(BaseModel):
    """What one codeword took on the (emulated) air."""

    modality: str
    token_length: int
    effective_snr_db: float
    channel_uses: int
    airtime_s: float
    payload_bytes: int


class ShownPart(BaseModel):
    """Which part of a recording the answer is about."""

    start_s: float
    end_s: float
    duration_s: float | None
    """Of the whole recording, where its file tells."""


class SceneShownPart(BaseModel):
    """A scene that an answer is from."""

    device: str
    scene_id: str
    """Empty: there is no such scene, and the model answered from the others."""
    start_s: float
    """When it begins, seconds since the Unix epoch by the server's clock."""
    length_s: float
    age_s: float
    """From its end to when it was asked about."""
    stale: bool
    """It is too old to be the present."""


class InferResponse(BaseModel):
    """The answer, and what it cost."""

    answer: str
    probability: float
    """Product of the probabilities of its language tokens."""
    logprobs: list[float]
    """Natural logarithm of each of these; empty where the answer was held back."""
    confidence: float | None
    """Probability that the answer is right, calibrated; of one that was held back, that of `guess`. None: the
    model is not calibrated for answers of this length."""
    abstained: bool
    """The model is not sure: `answer` says so, and is none."""
    guess: str | None
    """The answer that was held back."""
    prompt_tokens: int
    answer_tokens: int
    queue_s: float
    compute_s: float
    finish_reason: Literal["stop", "length"]
    model: str
    bundle_hash: str
    uplink: list[CostPart]
    scenes: list[SceneShownPart] | None = None
    """Of a question about scenes: what it was answered from, as it named them."""
    window: ShownPart | None = None
    """Of media that has a time."""
    windows: list[InferResponse] | None = None
    """With ``every``: the answer about each window, the first one too."""
