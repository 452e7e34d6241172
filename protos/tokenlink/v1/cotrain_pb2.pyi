from protos.tokenlink.v1 import tokenlink_pb2 as _tokenlink_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HeadPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HEAD_POLICY_UNSPECIFIED: _ClassVar[HeadPolicy]
    HEAD_POLICY_PERSONAL: _ClassVar[HeadPolicy]
    HEAD_POLICY_SHARED: _ClassVar[HeadPolicy]
    HEAD_POLICY_FROZEN: _ClassVar[HeadPolicy]

class Purpose(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PURPOSE_UNSPECIFIED: _ClassVar[Purpose]
    PURPOSE_TRAIN: _ClassVar[Purpose]
    PURPOSE_EXAMINE_BEFORE: _ClassVar[Purpose]
    PURPOSE_EXAMINE_AFTER: _ClassVar[Purpose]
HEAD_POLICY_UNSPECIFIED: HeadPolicy
HEAD_POLICY_PERSONAL: HeadPolicy
HEAD_POLICY_SHARED: HeadPolicy
HEAD_POLICY_FROZEN: HeadPolicy
PURPOSE_UNSPECIFIED: Purpose
PURPOSE_TRAIN: Purpose
PURPOSE_EXAMINE_BEFORE: Purpose
PURPOSE_EXAMINE_AFTER: Purpose

class LearnUplink(_message.Message):
    __slots__ = ("join", "batch", "heads")
    JOIN_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    join: Join
    batch: Batch
    heads: Heads
    def __init__(self, join: _Optional[_Union[Join, _Mapping]] = ..., batch: _Optional[_Union[Batch, _Mapping]] = ..., heads: _Optional[_Union[Heads, _Mapping]] = ...) -> None: ...

class LearnDownlink(_message.Message):
    __slots__ = ("joined", "step", "gradient", "heads", "finished")
    JOINED_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    joined: Joined
    step: Step
    gradient: BatchGradient
    heads: Heads
    finished: Finished
    def __init__(self, joined: _Optional[_Union[Joined, _Mapping]] = ..., step: _Optional[_Union[Step, _Mapping]] = ..., gradient: _Optional[_Union[BatchGradient, _Mapping]] = ..., heads: _Optional[_Union[Heads, _Mapping]] = ..., finished: _Optional[_Union[Finished, _Mapping]] = ...) -> None: ...

class Join(_message.Message):
    __slots__ = ("device_id", "bundle_hash", "round_id", "examples", "held_out", "agent_version")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_HASH_FIELD_NUMBER: _ClassVar[int]
    ROUND_ID_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    HELD_OUT_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    bundle_hash: str
    round_id: str
    examples: int
    held_out: int
    agent_version: str
    def __init__(self, device_id: _Optional[str] = ..., bundle_hash: _Optional[str] = ..., round_id: _Optional[str] = ..., examples: _Optional[int] = ..., held_out: _Optional[int] = ..., agent_version: _Optional[str] = ...) -> None: ...

class Joined(_message.Message):
    __slots__ = ("round_id", "rounds", "heads", "seed", "clip_norm", "weight_decay", "payload", "gradient", "usual", "align")
    class UsualEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: UsualFeatures
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[UsualFeatures, _Mapping]] = ...) -> None: ...
    ROUND_ID_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    CLIP_NORM_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_DECAY_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_FIELD_NUMBER: _ClassVar[int]
    USUAL_FIELD_NUMBER: _ClassVar[int]
    ALIGN_FIELD_NUMBER: _ClassVar[int]
    round_id: str
    rounds: int
    heads: HeadPolicy
    seed: int
    clip_norm: float
    weight_decay: float
    payload: _tokenlink_pb2.DType
    gradient: _tokenlink_pb2.DType
    usual: _containers.MessageMap[str, UsualFeatures]
    align: float
    def __init__(self, round_id: _Optional[str] = ..., rounds: _Optional[int] = ..., heads: _Optional[_Union[HeadPolicy, str]] = ..., seed: _Optional[int] = ..., clip_norm: _Optional[float] = ..., weight_decay: _Optional[float] = ..., payload: _Optional[_Union[_tokenlink_pb2.DType, str]] = ..., gradient: _Optional[_Union[_tokenlink_pb2.DType, str]] = ..., usual: _Optional[_Mapping[str, UsualFeatures]] = ..., align: _Optional[float] = ...) -> None: ...

class UsualFeatures(_message.Message):
    __slots__ = ("selection", "token_length", "mean", "deviation")
    SELECTION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_LENGTH_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    DEVIATION_FIELD_NUMBER: _ClassVar[int]
    selection: bytes
    token_length: int
    mean: _containers.RepeatedScalarFieldContainer[float]
    deviation: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, selection: _Optional[bytes] = ..., token_length: _Optional[int] = ..., mean: _Optional[_Iterable[float]] = ..., deviation: _Optional[_Iterable[float]] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("step", "purpose", "clips", "questions", "token_lengths", "learning_rate", "wants_heads")
    class TokenLengthsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    STEP_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    CLIPS_FIELD_NUMBER: _ClassVar[int]
    QUESTIONS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_LENGTHS_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    WANTS_HEADS_FIELD_NUMBER: _ClassVar[int]
    step: int
    purpose: Purpose
    clips: int
    questions: int
    token_lengths: _containers.ScalarMap[str, int]
    learning_rate: float
    wants_heads: bool
    def __init__(self, step: _Optional[int] = ..., purpose: _Optional[_Union[Purpose, str]] = ..., clips: _Optional[int] = ..., questions: _Optional[int] = ..., token_lengths: _Optional[_Mapping[str, int]] = ..., learning_rate: _Optional[float] = ..., wants_heads: _Optional[bool] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("step", "purpose", "examples")
    STEP_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    step: int
    purpose: Purpose
    examples: _containers.RepeatedCompositeFieldContainer[Example]
    def __init__(self, step: _Optional[int] = ..., purpose: _Optional[_Union[Purpose, str]] = ..., examples: _Optional[_Iterable[_Union[Example, _Mapping]]] = ...) -> None: ...

class Example(_message.Message):
    __slots__ = ("payloads", "asked")
    PAYLOADS_FIELD_NUMBER: _ClassVar[int]
    ASKED_FIELD_NUMBER: _ClassVar[int]
    payloads: _containers.RepeatedCompositeFieldContainer[_tokenlink_pb2.TokenPayload]
    asked: _containers.RepeatedCompositeFieldContainer[Labelled]
    def __init__(self, payloads: _Optional[_Iterable[_Union[_tokenlink_pb2.TokenPayload, _Mapping]]] = ..., asked: _Optional[_Iterable[_Union[Labelled, _Mapping]]] = ...) -> None: ...

class Labelled(_message.Message):
    __slots__ = ("question_ids", "answer_ids")
    QUESTION_IDS_FIELD_NUMBER: _ClassVar[int]
    ANSWER_IDS_FIELD_NUMBER: _ClassVar[int]
    question_ids: _containers.RepeatedScalarFieldContainer[int]
    answer_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, question_ids: _Optional[_Iterable[int]] = ..., answer_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class BatchGradient(_message.Message):
    __slots__ = ("step", "blocks", "loss", "right")
    STEP_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    RIGHT_FIELD_NUMBER: _ClassVar[int]
    step: int
    blocks: _containers.RepeatedCompositeFieldContainer[BlockGradient]
    loss: float
    right: float
    def __init__(self, step: _Optional[int] = ..., blocks: _Optional[_Iterable[_Union[BlockGradient, _Mapping]]] = ..., loss: _Optional[float] = ..., right: _Optional[float] = ...) -> None: ...

class BlockGradient(_message.Message):
    __slots__ = ("transmitter", "dtype", "shape", "scale", "data", "crc32")
    TRANSMITTER_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    CRC32_FIELD_NUMBER: _ClassVar[int]
    transmitter: str
    dtype: _tokenlink_pb2.DType
    shape: _containers.RepeatedScalarFieldContainer[int]
    scale: float
    data: bytes
    crc32: int
    def __init__(self, transmitter: _Optional[str] = ..., dtype: _Optional[_Union[_tokenlink_pb2.DType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., scale: _Optional[float] = ..., data: _Optional[bytes] = ..., crc32: _Optional[int] = ...) -> None: ...

class Heads(_message.Message):
    __slots__ = ("step", "heads")
    STEP_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    step: int
    heads: _containers.RepeatedCompositeFieldContainer[HeadWeights]
    def __init__(self, step: _Optional[int] = ..., heads: _Optional[_Iterable[_Union[HeadWeights, _Mapping]]] = ...) -> None: ...

class HeadWeights(_message.Message):
    __slots__ = ("transmitter", "tensors")
    TRANSMITTER_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    transmitter: str
    tensors: _containers.RepeatedCompositeFieldContainer[WeightTensor]
    def __init__(self, transmitter: _Optional[str] = ..., tensors: _Optional[_Iterable[_Union[WeightTensor, _Mapping]]] = ...) -> None: ...

class WeightTensor(_message.Message):
    __slots__ = ("name", "shape", "data")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    name: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    def __init__(self, name: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ...) -> None: ...

class Finished(_message.Message):
    __slots__ = ("reason", "step")
    REASON_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    reason: str
    step: int
    def __init__(self, reason: _Optional[str] = ..., step: _Optional[int] = ...) -> None: ...
