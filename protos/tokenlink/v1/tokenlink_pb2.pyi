from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Modality(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODALITY_UNSPECIFIED: _ClassVar[Modality]
    MODALITY_IMAGE: _ClassVar[Modality]
    MODALITY_VIDEO: _ClassVar[Modality]
    MODALITY_AUDIO: _ClassVar[Modality]
    MODALITY_TEXT: _ClassVar[Modality]

class DType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DTYPE_UNSPECIFIED: _ClassVar[DType]
    DTYPE_FLOAT32: _ClassVar[DType]
    DTYPE_FLOAT16: _ClassVar[DType]
    DTYPE_INT8: _ClassVar[DType]
    DTYPE_INT4: _ClassVar[DType]

class ChannelModel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHANNEL_MODEL_UNSPECIFIED: _ClassVar[ChannelModel]
    CHANNEL_MODEL_NONE: _ClassVar[ChannelModel]
    CHANNEL_MODEL_AWGN: _ClassVar[ChannelModel]
    CHANNEL_MODEL_RAYLEIGH: _ClassVar[ChannelModel]
    CHANNEL_MODEL_RICIAN: _ClassVar[ChannelModel]
    CHANNEL_MODEL_TDL_A: _ClassVar[ChannelModel]
    CHANNEL_MODEL_TDL_B: _ClassVar[ChannelModel]
    CHANNEL_MODEL_TDL_C: _ClassVar[ChannelModel]
    CHANNEL_MODEL_TDL_D: _ClassVar[ChannelModel]
    CHANNEL_MODEL_TDL_E: _ClassVar[ChannelModel]

class Fading(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FADING_UNSPECIFIED: _ClassVar[Fading]
    FADING_BLOCK: _ClassVar[Fading]
    FADING_FAST: _ClassVar[Fading]

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_INTERACTIVE: _ClassVar[Priority]
    PRIORITY_BACKGROUND: _ClassVar[Priority]
MODALITY_UNSPECIFIED: Modality
MODALITY_IMAGE: Modality
MODALITY_VIDEO: Modality
MODALITY_AUDIO: Modality
MODALITY_TEXT: Modality
DTYPE_UNSPECIFIED: DType
DTYPE_FLOAT32: DType
DTYPE_FLOAT16: DType
DTYPE_INT8: DType
DTYPE_INT4: DType
CHANNEL_MODEL_UNSPECIFIED: ChannelModel
CHANNEL_MODEL_NONE: ChannelModel
CHANNEL_MODEL_AWGN: ChannelModel
CHANNEL_MODEL_RAYLEIGH: ChannelModel
CHANNEL_MODEL_RICIAN: ChannelModel
CHANNEL_MODEL_TDL_A: ChannelModel
CHANNEL_MODEL_TDL_B: ChannelModel
CHANNEL_MODEL_TDL_C: ChannelModel
CHANNEL_MODEL_TDL_D: ChannelModel
CHANNEL_MODEL_TDL_E: ChannelModel
FADING_UNSPECIFIED: Fading
FADING_BLOCK: Fading
FADING_FAST: Fading
PRIORITY_UNSPECIFIED: Priority
PRIORITY_INTERACTIVE: Priority
PRIORITY_BACKGROUND: Priority

class TokenPayload(_message.Message):
    __slots__ = ("modality", "dtype", "shape", "scale", "data", "crc32", "channel", "first_token")
    MODALITY_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    CRC32_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_FIELD_NUMBER: _ClassVar[int]
    modality: Modality
    dtype: DType
    shape: _containers.RepeatedScalarFieldContainer[int]
    scale: float
    data: bytes
    crc32: int
    channel: ChannelReport
    first_token: int
    def __init__(self, modality: _Optional[_Union[Modality, str]] = ..., dtype: _Optional[_Union[DType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., scale: _Optional[float] = ..., data: _Optional[bytes] = ..., crc32: _Optional[int] = ..., channel: _Optional[_Union[ChannelReport, _Mapping]] = ..., first_token: _Optional[int] = ...) -> None: ...

class ChannelReport(_message.Message):
    __slots__ = ("model", "fading", "effective_snr_db", "channel_uses", "airtime_s", "zero_forcing", "token_snr", "pilots")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FADING_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_SNR_DB_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_USES_FIELD_NUMBER: _ClassVar[int]
    AIRTIME_S_FIELD_NUMBER: _ClassVar[int]
    ZERO_FORCING_FIELD_NUMBER: _ClassVar[int]
    TOKEN_SNR_FIELD_NUMBER: _ClassVar[int]
    PILOTS_FIELD_NUMBER: _ClassVar[int]
    model: ChannelModel
    fading: Fading
    effective_snr_db: float
    channel_uses: int
    airtime_s: float
    zero_forcing: bool
    token_snr: bytes
    pilots: int
    def __init__(self, model: _Optional[_Union[ChannelModel, str]] = ..., fading: _Optional[_Union[Fading, str]] = ..., effective_snr_db: _Optional[float] = ..., channel_uses: _Optional[int] = ..., airtime_s: _Optional[float] = ..., zero_forcing: _Optional[bool] = ..., token_snr: _Optional[bytes] = ..., pilots: _Optional[int] = ...) -> None: ...

class Question(_message.Message):
    __slots__ = ("request_id", "payloads", "question_ids", "max_new_tokens", "deadline_ms", "context_ids", "priority", "whole_answer", "sampling", "share", "scenes", "question_text", "rounds", "encode_ms", "spent_ms")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PAYLOADS_FIELD_NUMBER: _ClassVar[int]
    QUESTION_IDS_FIELD_NUMBER: _ClassVar[int]
    MAX_NEW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_IDS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    WHOLE_ANSWER_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    SCENES_FIELD_NUMBER: _ClassVar[int]
    QUESTION_TEXT_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    ENCODE_MS_FIELD_NUMBER: _ClassVar[int]
    SPENT_MS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    payloads: _containers.RepeatedCompositeFieldContainer[TokenPayload]
    question_ids: _containers.RepeatedScalarFieldContainer[int]
    max_new_tokens: int
    deadline_ms: int
    context_ids: _containers.RepeatedScalarFieldContainer[int]
    priority: Priority
    whole_answer: bool
    sampling: Sampling
    share: Share
    scenes: _containers.RepeatedCompositeFieldContainer[SceneRef]
    question_text: str
    rounds: Rounds
    encode_ms: int
    spent_ms: int
    def __init__(self, request_id: _Optional[str] = ..., payloads: _Optional[_Iterable[_Union[TokenPayload, _Mapping]]] = ..., question_ids: _Optional[_Iterable[int]] = ..., max_new_tokens: _Optional[int] = ..., deadline_ms: _Optional[int] = ..., context_ids: _Optional[_Iterable[int]] = ..., priority: _Optional[_Union[Priority, str]] = ..., whole_answer: _Optional[bool] = ..., sampling: _Optional[_Union[Sampling, _Mapping]] = ..., share: _Optional[_Union[Share, _Mapping]] = ..., scenes: _Optional[_Iterable[_Union[SceneRef, _Mapping]]] = ..., question_text: _Optional[str] = ..., rounds: _Optional[_Union[Rounds, _Mapping]] = ..., encode_ms: _Optional[int] = ..., spent_ms: _Optional[int] = ...) -> None: ...

class Rounds(_message.Message):
    __slots__ = ("token_lengths", "until", "abstain", "nested")
    TOKEN_LENGTHS_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    ABSTAIN_FIELD_NUMBER: _ClassVar[int]
    NESTED_FIELD_NUMBER: _ClassVar[int]
    token_lengths: _containers.RepeatedScalarFieldContainer[int]
    until: float
    abstain: bool
    nested: bool
    def __init__(self, token_lengths: _Optional[_Iterable[int]] = ..., until: _Optional[float] = ..., abstain: _Optional[bool] = ..., nested: _Optional[bool] = ...) -> None: ...

class MoreWanted(_message.Message):
    __slots__ = ("round", "blocks")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    round: int
    blocks: _containers.RepeatedCompositeFieldContainer[WantedBlock]
    def __init__(self, round: _Optional[int] = ..., blocks: _Optional[_Iterable[_Union[WantedBlock, _Mapping]]] = ...) -> None: ...

class WantedBlock(_message.Message):
    __slots__ = ("modality", "token_length", "first_token")
    MODALITY_FIELD_NUMBER: _ClassVar[int]
    TOKEN_LENGTH_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_FIELD_NUMBER: _ClassVar[int]
    modality: Modality
    token_length: int
    first_token: int
    def __init__(self, modality: _Optional[_Union[Modality, str]] = ..., token_length: _Optional[int] = ..., first_token: _Optional[int] = ...) -> None: ...

class More(_message.Message):
    __slots__ = ("request_id", "round", "payloads")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    PAYLOADS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    round: int
    payloads: _containers.RepeatedCompositeFieldContainer[TokenPayload]
    def __init__(self, request_id: _Optional[str] = ..., round: _Optional[int] = ..., payloads: _Optional[_Iterable[_Union[TokenPayload, _Mapping]]] = ...) -> None: ...

class Share(_message.Message):
    __slots__ = ("device", "start_s", "length_s", "thumbnail")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    START_S_FIELD_NUMBER: _ClassVar[int]
    LENGTH_S_FIELD_NUMBER: _ClassVar[int]
    THUMBNAIL_FIELD_NUMBER: _ClassVar[int]
    device: str
    start_s: float
    length_s: float
    thumbnail: bytes
    def __init__(self, device: _Optional[str] = ..., start_s: _Optional[float] = ..., length_s: _Optional[float] = ..., thumbnail: _Optional[bytes] = ...) -> None: ...

class SceneRef(_message.Message):
    __slots__ = ("device", "at", "modalities")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    MODALITIES_FIELD_NUMBER: _ClassVar[int]
    device: str
    at: str
    modalities: _containers.RepeatedScalarFieldContainer[Modality]
    def __init__(self, device: _Optional[str] = ..., at: _Optional[str] = ..., modalities: _Optional[_Iterable[_Union[Modality, str]]] = ...) -> None: ...

class SceneShown(_message.Message):
    __slots__ = ("device", "scene_id", "start_s", "length_s", "age_s", "stale")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    SCENE_ID_FIELD_NUMBER: _ClassVar[int]
    START_S_FIELD_NUMBER: _ClassVar[int]
    LENGTH_S_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    device: str
    scene_id: str
    start_s: float
    length_s: float
    age_s: float
    stale: bool
    def __init__(self, device: _Optional[str] = ..., scene_id: _Optional[str] = ..., start_s: _Optional[float] = ..., length_s: _Optional[float] = ..., age_s: _Optional[float] = ..., stale: _Optional[bool] = ...) -> None: ...

class Sampling(_message.Message):
    __slots__ = ("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty", "logit_bias", "stop")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_PENALTY_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_PENALTY_FIELD_NUMBER: _ClassVar[int]
    LOGIT_BIAS_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    top_p: float
    seed: int
    frequency_penalty: float
    presence_penalty: float
    logit_bias: _containers.RepeatedCompositeFieldContainer[LogitBias]
    stop: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., seed: _Optional[int] = ..., frequency_penalty: _Optional[float] = ..., presence_penalty: _Optional[float] = ..., logit_bias: _Optional[_Iterable[_Union[LogitBias, _Mapping]]] = ..., stop: _Optional[_Iterable[str]] = ...) -> None: ...

class LogitBias(_message.Message):
    __slots__ = ("token_id", "bias")
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    BIAS_FIELD_NUMBER: _ClassVar[int]
    token_id: int
    bias: float
    def __init__(self, token_id: _Optional[int] = ..., bias: _Optional[float] = ...) -> None: ...

class OpenSessionRequest(_message.Message):
    __slots__ = ("device_id", "bundle_hash", "agent_version", "snr_db")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_HASH_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    SNR_DB_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    bundle_hash: str
    agent_version: str
    snr_db: float
    def __init__(self, device_id: _Optional[str] = ..., bundle_hash: _Optional[str] = ..., agent_version: _Optional[str] = ..., snr_db: _Optional[float] = ...) -> None: ...

class Grant(_message.Message):
    __slots__ = ("max_token_length", "token_length", "max_questions_in_flight", "max_question_bytes", "bandwidth_hz", "valid_s", "outage_snr_db", "tx_power_db", "channel_uses", "rounds")
    MAX_TOKEN_LENGTH_FIELD_NUMBER: _ClassVar[int]
    TOKEN_LENGTH_FIELD_NUMBER: _ClassVar[int]
    MAX_QUESTIONS_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_QUESTION_BYTES_FIELD_NUMBER: _ClassVar[int]
    BANDWIDTH_HZ_FIELD_NUMBER: _ClassVar[int]
    VALID_S_FIELD_NUMBER: _ClassVar[int]
    OUTAGE_SNR_DB_FIELD_NUMBER: _ClassVar[int]
    TX_POWER_DB_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_USES_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    max_token_length: int
    token_length: int
    max_questions_in_flight: int
    max_question_bytes: int
    bandwidth_hz: float
    valid_s: float
    outage_snr_db: float
    tx_power_db: float
    channel_uses: int
    rounds: bool
    def __init__(self, max_token_length: _Optional[int] = ..., token_length: _Optional[int] = ..., max_questions_in_flight: _Optional[int] = ..., max_question_bytes: _Optional[int] = ..., bandwidth_hz: _Optional[float] = ..., valid_s: _Optional[float] = ..., outage_snr_db: _Optional[float] = ..., tx_power_db: _Optional[float] = ..., channel_uses: _Optional[int] = ..., rounds: _Optional[bool] = ...) -> None: ...

class OpenSessionResponse(_message.Message):
    __slots__ = ("session_id", "grant", "server_version", "model_name", "server_time_s", "current_bundle_hash")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_S_FIELD_NUMBER: _ClassVar[int]
    CURRENT_BUNDLE_HASH_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    grant: Grant
    server_version: str
    model_name: str
    server_time_s: float
    current_bundle_hash: str
    def __init__(self, session_id: _Optional[str] = ..., grant: _Optional[_Union[Grant, _Mapping]] = ..., server_version: _Optional[str] = ..., model_name: _Optional[str] = ..., server_time_s: _Optional[float] = ..., current_bundle_hash: _Optional[str] = ...) -> None: ...

class CloseSessionRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class CloseSessionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class UplinkFrame(_message.Message):
    __slots__ = ("session_id", "bundle_hash", "question", "cancel", "acknowledge", "more", "late", "traceparent", "sent_at_s")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_HASH_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGE_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_S_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    bundle_hash: str
    question: Question
    cancel: Cancel
    acknowledge: Acknowledge
    more: More
    late: Late
    traceparent: str
    sent_at_s: float
    def __init__(self, session_id: _Optional[str] = ..., bundle_hash: _Optional[str] = ..., question: _Optional[_Union[Question, _Mapping]] = ..., cancel: _Optional[_Union[Cancel, _Mapping]] = ..., acknowledge: _Optional[_Union[Acknowledge, _Mapping]] = ..., more: _Optional[_Union[More, _Mapping]] = ..., late: _Optional[_Union[Late, _Mapping]] = ..., traceparent: _Optional[str] = ..., sent_at_s: _Optional[float] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class Acknowledge(_message.Message):
    __slots__ = ("request_ids",)
    REQUEST_IDS_FIELD_NUMBER: _ClassVar[int]
    request_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, request_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class Late(_message.Message):
    __slots__ = ("deadline_ms", "encode_ms")
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    ENCODE_MS_FIELD_NUMBER: _ClassVar[int]
    deadline_ms: int
    encode_ms: int
    def __init__(self, deadline_ms: _Optional[int] = ..., encode_ms: _Optional[int] = ...) -> None: ...

class AskRequest(_message.Message):
    __slots__ = ("session_id", "bundle_hash", "question")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_HASH_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    bundle_hash: str
    question: Question
    def __init__(self, session_id: _Optional[str] = ..., bundle_hash: _Optional[str] = ..., question: _Optional[_Union[Question, _Mapping]] = ...) -> None: ...

class DownlinkFrame(_message.Message):
    __slots__ = ("request_id", "delta", "answer", "failure", "grant", "wanted")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    delta: AnswerDelta
    answer: Answer
    failure: Failure
    grant: GrantUpdate
    wanted: MoreWanted
    def __init__(self, request_id: _Optional[str] = ..., delta: _Optional[_Union[AnswerDelta, _Mapping]] = ..., answer: _Optional[_Union[Answer, _Mapping]] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ..., grant: _Optional[_Union[GrantUpdate, _Mapping]] = ..., wanted: _Optional[_Union[MoreWanted, _Mapping]] = ...) -> None: ...

class GrantUpdate(_message.Message):
    __slots__ = ("session_id", "grant")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    grant: Grant
    def __init__(self, session_id: _Optional[str] = ..., grant: _Optional[_Union[Grant, _Mapping]] = ...) -> None: ...

class AnswerDelta(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("text", "probability", "prompt_tokens", "answer_tokens", "queue_s", "compute_s", "finish_reason", "logprob", "confidence", "abstained", "guess", "scenes")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ANSWER_TOKENS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_S_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_S_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    ABSTAINED_FIELD_NUMBER: _ClassVar[int]
    GUESS_FIELD_NUMBER: _ClassVar[int]
    SCENES_FIELD_NUMBER: _ClassVar[int]
    text: str
    probability: float
    prompt_tokens: int
    answer_tokens: int
    queue_s: float
    compute_s: float
    finish_reason: str
    logprob: float
    confidence: float
    abstained: bool
    guess: str
    scenes: _containers.RepeatedCompositeFieldContainer[SceneShown]
    def __init__(self, text: _Optional[str] = ..., probability: _Optional[float] = ..., prompt_tokens: _Optional[int] = ..., answer_tokens: _Optional[int] = ..., queue_s: _Optional[float] = ..., compute_s: _Optional[float] = ..., finish_reason: _Optional[str] = ..., logprob: _Optional[float] = ..., confidence: _Optional[float] = ..., abstained: _Optional[bool] = ..., guess: _Optional[str] = ..., scenes: _Optional[_Iterable[_Union[SceneShown, _Mapping]]] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("code", "message", "field", "retry_delay_ms")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    RETRY_DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    field: str
    retry_delay_ms: int
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., field: _Optional[str] = ..., retry_delay_ms: _Optional[int] = ...) -> None: ...

class GetBundleRequest(_message.Message):
    __slots__ = ("bundle_hash", "precision", "model")
    BUNDLE_HASH_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    bundle_hash: str
    precision: str
    model: str
    def __init__(self, bundle_hash: _Optional[str] = ..., precision: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class BundleChunk(_message.Message):
    __slots__ = ("bundle_hash", "total_bytes", "data")
    BUNDLE_HASH_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    bundle_hash: str
    total_bytes: int
    data: bytes
    def __init__(self, bundle_hash: _Optional[str] = ..., total_bytes: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...
