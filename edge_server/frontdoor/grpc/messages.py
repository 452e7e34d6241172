"""What came over the wire: a message of the expected type, or bytes that are none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from google.protobuf.message import DecodeError, Message

from edge_server.errors import InvalidQuestionError


@dataclass(frozen=True)
class Malformed:
    """Bytes that are no message of the expected type."""

    reason: str


_Message = TypeVar("_Message")
_Parsed = TypeVar("_Parsed", bound=Message)
Received: TypeAlias = _Message | Malformed
"""As it reaches the service: what does not parse fails there, alone, and with a reason."""


def parser(message_type: type[_Parsed]) -> Callable[[bytes], Received[_Parsed]]:
    """A deserializer for gRPC that raises nothing."""

    def parse(data: bytes) -> Received[_Parsed]:
        try:
            return message_type.FromString(data)
        except DecodeError as error:
            return Malformed(str(error))

    return parse


def parsed(received: Received[_Message]) -> _Message:
    """The message.

    Raises:
        InvalidQuestionError: it is none.
    """
    if isinstance(received, Malformed):
        raise InvalidQuestionError("message", f"cannot be parsed: {received.reason}")
    return received
