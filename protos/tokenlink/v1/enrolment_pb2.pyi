from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class ChallengeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ChallengeResponse(_message.Message):
    __slots__ = ("nonce",)
    NONCE_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    def __init__(self, nonce: _Optional[bytes] = ...) -> None: ...

class EnrolRequest(_message.Message):
    __slots__ = ("nonce", "token_id", "proof", "certificate_request")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    token_id: str
    proof: bytes
    certificate_request: bytes
    def __init__(self, nonce: _Optional[bytes] = ..., token_id: _Optional[str] = ..., proof: _Optional[bytes] = ..., certificate_request: _Optional[bytes] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("nonce", "certificate", "certificate_request", "signature")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    certificate: bytes
    certificate_request: bytes
    signature: bytes
    def __init__(self, nonce: _Optional[bytes] = ..., certificate: _Optional[bytes] = ..., certificate_request: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class EnrolResponse(_message.Message):
    __slots__ = ("certificate", "authority", "device_id", "renew_at_s", "bundle_keys")
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    RENEW_AT_S_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_KEYS_FIELD_NUMBER: _ClassVar[int]
    certificate: str
    authority: str
    device_id: str
    renew_at_s: float
    bundle_keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, certificate: _Optional[str] = ..., authority: _Optional[str] = ..., device_id: _Optional[str] = ..., renew_at_s: _Optional[float] = ..., bundle_keys: _Optional[_Iterable[str]] = ...) -> None: ...
