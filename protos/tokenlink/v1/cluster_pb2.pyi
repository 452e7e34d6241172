from protos.tokenlink.v1 import tokenlink_pb2 as _tokenlink_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Work(_message.Message):
    __slots__ = ("uid", "inbox", "user", "deadline_at_s", "deadline_s", "question", "alternatives", "tokens", "conversation", "kept_as", "turns", "claim", "claimed", "digest", "labels")
    UID_FIELD_NUMBER: _ClassVar[int]
    INBOX_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_AT_S_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVES_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    KEPT_AS_FIELD_NUMBER: _ClassVar[int]
    TURNS_FIELD_NUMBER: _ClassVar[int]
    CLAIM_FIELD_NUMBER: _ClassVar[int]
    CLAIMED_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    uid: str
    inbox: str
    user: str
    deadline_at_s: float
    deadline_s: float
    question: _tokenlink_pb2.Question
    alternatives: int
    tokens: bool
    conversation: str
    kept_as: str
    turns: _containers.RepeatedCompositeFieldContainer[Turn]
    claim: str
    claimed: int
    digest: bytes
    labels: _containers.RepeatedCompositeFieldContainer[TokenIds]
    def __init__(self, uid: _Optional[str] = ..., inbox: _Optional[str] = ..., user: _Optional[str] = ..., deadline_at_s: _Optional[float] = ..., deadline_s: _Optional[float] = ..., question: _Optional[_Union[_tokenlink_pb2.Question, _Mapping]] = ..., alternatives: _Optional[int] = ..., tokens: _Optional[bool] = ..., conversation: _Optional[str] = ..., kept_as: _Optional[str] = ..., turns: _Optional[_Iterable[_Union[Turn, _Mapping]]] = ..., claim: _Optional[str] = ..., claimed: _Optional[int] = ..., digest: _Optional[bytes] = ..., labels: _Optional[_Iterable[_Union[TokenIds, _Mapping]]] = ...) -> None: ...

class Turn(_message.Message):
    __slots__ = ("role", "pieces")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    PIECES_FIELD_NUMBER: _ClassVar[int]
    role: str
    pieces: _containers.RepeatedCompositeFieldContainer[TurnPiece]
    def __init__(self, role: _Optional[str] = ..., pieces: _Optional[_Iterable[_Union[TurnPiece, _Mapping]]] = ...) -> None: ...

class TurnPiece(_message.Message):
    __slots__ = ("ids", "block")
    IDS_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    ids: TokenIds
    block: int
    def __init__(self, ids: _Optional[_Union[TokenIds, _Mapping]] = ..., block: _Optional[int] = ...) -> None: ...

class TokenIds(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ids: _Optional[_Iterable[int]] = ...) -> None: ...

class AnswerPiece(_message.Message):
    __slots__ = ("uid", "text_offset", "token_offset", "text", "whole", "refusal")
    UID_FIELD_NUMBER: _ClassVar[int]
    TEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    TOKEN_OFFSET_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    uid: str
    text_offset: int
    token_offset: int
    text: TextPiece
    whole: WholeAnswer
    refusal: Refusal
    def __init__(self, uid: _Optional[str] = ..., text_offset: _Optional[int] = ..., token_offset: _Optional[int] = ..., text: _Optional[_Union[TextPiece, _Mapping]] = ..., whole: _Optional[_Union[WholeAnswer, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class TextPiece(_message.Message):
    __slots__ = ("text", "tokens")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    text: str
    tokens: _containers.RepeatedCompositeFieldContainer[AnswerToken]
    def __init__(self, text: _Optional[str] = ..., tokens: _Optional[_Iterable[_Union[AnswerToken, _Mapping]]] = ...) -> None: ...

class AnswerToken(_message.Message):
    __slots__ = ("token_id", "logprob", "alternatives")
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVES_FIELD_NUMBER: _ClassVar[int]
    token_id: int
    logprob: float
    alternatives: _containers.RepeatedCompositeFieldContainer[Alternative]
    def __init__(self, token_id: _Optional[int] = ..., logprob: _Optional[float] = ..., alternatives: _Optional[_Iterable[_Union[Alternative, _Mapping]]] = ...) -> None: ...

class Alternative(_message.Message):
    __slots__ = ("token_id", "logprob")
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    token_id: int
    logprob: float
    def __init__(self, token_id: _Optional[int] = ..., logprob: _Optional[float] = ...) -> None: ...

class WholeAnswer(_message.Message):
    __slots__ = ("answer", "first_token_s", "logprobs", "tokens")
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_S_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    answer: _tokenlink_pb2.Answer
    first_token_s: float
    logprobs: _containers.RepeatedScalarFieldContainer[float]
    tokens: _containers.RepeatedCompositeFieldContainer[AnswerToken]
    def __init__(self, answer: _Optional[_Union[_tokenlink_pb2.Answer, _Mapping]] = ..., first_token_s: _Optional[float] = ..., logprobs: _Optional[_Iterable[float]] = ..., tokens: _Optional[_Iterable[_Union[AnswerToken, _Mapping]]] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("kind", "message", "field")
    KIND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    kind: str
    message: str
    field: str
    def __init__(self, kind: _Optional[str] = ..., message: _Optional[str] = ..., field: _Optional[str] = ...) -> None: ...

class Claim(_message.Message):
    __slots__ = ("digest", "deadline_at_s", "door", "answer", "refusal")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_AT_S_FIELD_NUMBER: _ClassVar[int]
    DOOR_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    deadline_at_s: float
    door: str
    answer: WholeAnswer
    refusal: Refusal
    def __init__(self, digest: _Optional[bytes] = ..., deadline_at_s: _Optional[float] = ..., door: _Optional[str] = ..., answer: _Optional[_Union[WholeAnswer, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class Presence(_message.Message):
    __slots__ = ("node", "rows", "in_hand", "ready")
    NODE_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    IN_HAND_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    node: str
    rows: int
    in_hand: int
    ready: bool
    def __init__(self, node: _Optional[str] = ..., rows: _Optional[int] = ..., in_hand: _Optional[int] = ..., ready: _Optional[bool] = ...) -> None: ...

class CellSessions(_message.Message):
    __slots__ = ("node", "sessions")
    NODE_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    node: str
    sessions: _containers.RepeatedCompositeFieldContainer[CellSession]
    def __init__(self, node: _Optional[str] = ..., sessions: _Optional[_Iterable[_Union[CellSession, _Mapping]]] = ...) -> None: ...

class CellSession(_message.Message):
    __slots__ = ("session_id", "snr_db", "mix", "symbols_per_token", "bundle_hash", "deadline_s", "encode_s")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SNR_DB_FIELD_NUMBER: _ClassVar[int]
    MIX_FIELD_NUMBER: _ClassVar[int]
    SYMBOLS_PER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_HASH_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    ENCODE_S_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    snr_db: float
    mix: _containers.RepeatedScalarFieldContainer[str]
    symbols_per_token: float
    bundle_hash: str
    deadline_s: float
    encode_s: float
    def __init__(self, session_id: _Optional[str] = ..., snr_db: _Optional[float] = ..., mix: _Optional[_Iterable[str]] = ..., symbols_per_token: _Optional[float] = ..., bundle_hash: _Optional[str] = ..., deadline_s: _Optional[float] = ..., encode_s: _Optional[float] = ...) -> None: ...

class CellShares(_message.Message):
    __slots__ = ("node", "shares", "devices")
    NODE_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    node: str
    shares: _containers.RepeatedCompositeFieldContainer[CellShare]
    devices: int
    def __init__(self, node: _Optional[str] = ..., shares: _Optional[_Iterable[_Union[CellShare, _Mapping]]] = ..., devices: _Optional[int] = ...) -> None: ...

class CellShare(_message.Message):
    __slots__ = ("session_id", "bandwidth_hz", "power", "token_length")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    BANDWIDTH_HZ_FIELD_NUMBER: _ClassVar[int]
    POWER_FIELD_NUMBER: _ClassVar[int]
    TOKEN_LENGTH_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    bandwidth_hz: float
    power: float
    token_length: int
    def __init__(self, session_id: _Optional[str] = ..., bandwidth_hz: _Optional[float] = ..., power: _Optional[float] = ..., token_length: _Optional[int] = ...) -> None: ...

class KeptScene(_message.Message):
    __slots__ = ("device", "start_s", "length_s", "keep_until_s", "bundle_hash", "blocks", "space", "vector", "thumbnail")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    START_S_FIELD_NUMBER: _ClassVar[int]
    LENGTH_S_FIELD_NUMBER: _ClassVar[int]
    KEEP_UNTIL_S_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_HASH_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    THUMBNAIL_FIELD_NUMBER: _ClassVar[int]
    device: str
    start_s: float
    length_s: float
    keep_until_s: float
    bundle_hash: str
    blocks: _containers.RepeatedCompositeFieldContainer[KeptBlock]
    space: str
    vector: bytes
    thumbnail: bytes
    def __init__(self, device: _Optional[str] = ..., start_s: _Optional[float] = ..., length_s: _Optional[float] = ..., keep_until_s: _Optional[float] = ..., bundle_hash: _Optional[str] = ..., blocks: _Optional[_Iterable[_Union[KeptBlock, _Mapping]]] = ..., space: _Optional[str] = ..., vector: _Optional[bytes] = ..., thumbnail: _Optional[bytes] = ...) -> None: ...

class KeptBlock(_message.Message):
    __slots__ = ("modality", "token_length", "snr_db", "wire")
    MODALITY_FIELD_NUMBER: _ClassVar[int]
    TOKEN_LENGTH_FIELD_NUMBER: _ClassVar[int]
    SNR_DB_FIELD_NUMBER: _ClassVar[int]
    WIRE_FIELD_NUMBER: _ClassVar[int]
    modality: str
    token_length: int
    snr_db: float
    wire: bytes
    def __init__(self, modality: _Optional[str] = ..., token_length: _Optional[int] = ..., snr_db: _Optional[float] = ..., wire: _Optional[bytes] = ...) -> None: ...
