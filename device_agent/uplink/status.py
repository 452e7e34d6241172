"""gRPC's status codes as errors of ours: the one place where they are mapped."""

from __future__ import annotations

from typing import TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from device_agent.errors import (
    BundleMismatchError,
    DeadlineError,
    DeviceAgentError,
    GaveUpError,
    OverloadedError,
    PermissionDeniedError,
    RefusedError,
    ServerUnreachableError,
    UnauthenticatedError,
    UplinkError,
)
from device_agent.uplink.given import given_as
from device_agent.uplink.sane import sane_delay_s, sane_words
from protos.metadata import FAILURE_KEY
from protos.tokenlink.v1 import tokenlink_pb2 as pb

_Message = TypeVar("_Message")

CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


class TryAgainError(Exception):
    """What went wrong may go right next time.

    Args:
        cause: what to say if it does not.
        floor_s: what the server asked to wait [s].
        reopen: the session is gone; a new one is needed first.
    """

    def __init__(self, cause: DeviceAgentError, *, floor_s: float = 0.0, reopen: bool = False) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.floor_s = floor_s
        self.reopen = reopen


def heard(message: _Message | None, server: str) -> _Message:
    """A message as it was received: gRPC gives None for bytes that are none.

    Raises:
        TryAgainError: it is none.
    """
    if message is None:
        raise TryAgainError(UplinkError(f"{server} sends what is no message; is it an edge server?"))
    return message


def error_of_failure(failure: pb.Failure) -> DeviceAgentError | TryAgainError:
    """A question's ``Failure`` as an error; worth another try or not."""
    code = CODES.get(failure.code, grpc.StatusCode.UNKNOWN)
    message, field = sane_words(failure.message or code.name), sane_words(failure.field)
    return _error_of(code, message, field, sane_delay_s(failure.retry_delay_ms))


def error_of_call(error: grpc.aio.AioRpcError, server: str) -> DeviceAgentError | TryAgainError:
    """A call that ended with a status as an error; worth another try or not."""
    code = error.code()
    details = sane_words(error.details() or code.name)
    for key, value in error.trailing_metadata() or ():
        if key == FAILURE_KEY and isinstance(value, bytes):
            try:
                return error_of_failure(pb.Failure.FromString(value))
            except DecodeError:
                break
    match code:
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED | grpc.StatusCode.UNKNOWN:
            return TryAgainError(
                ServerUnreachableError(f"no connection to {server}: {details}{_tls_advice(details)}")
            )
        case grpc.StatusCode.INTERNAL | grpc.StatusCode.DEADLINE_EXCEEDED:
            # The server's own words come as a Failure; these are the transport's.
            return TryAgainError(ServerUnreachableError(f"the connection to {server} broke: {details}"))
        case grpc.StatusCode.UNIMPLEMENTED:
            return UplinkError(f"{server} speaks another protocol: {details}; is it an edge server?")
        case _:
            return _error_of(code, details, "", 0.0)


def _tls_advice(details: str) -> str:
    """What a broken handshake may mean: gRPC says what happened, not what to do."""
    if "CERTIFICATE_VERIFY_FAILED" in details or "Hostname Verification" in details:
        return (
            "\nThe server's certificate is not one that this device trusts under this name: is it another "
            "server, or was its authority renewed? Then enrol again; a name of its own: --server-name."
        )
    if "WRONG_VERSION_NUMBER" in details:
        return "\nThe server does not speak TLS there: is it the right port? Without TLS: --no-tls."
    if "Socket closed" in details:
        return (
            "\nIf the server asks devices for certificates, it closes connections that show no good one: "
            "enrol this device with `device-agent enrol`."
        )
    return ""


def _error_of(
    code: grpc.StatusCode, message: str, field: str, floor_s: float
) -> DeviceAgentError | TryAgainError:
    match code:
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return TryAgainError(OverloadedError(f"the server is full: {message}"), floor_s=floor_s)
        case grpc.StatusCode.UNAVAILABLE:
            return TryAgainError(ServerUnreachableError(message), floor_s=floor_s)
        case grpc.StatusCode.NOT_FOUND if field in ("", "session_id"):
            return TryAgainError(UplinkError(f"the session was lost: {message}"), reopen=True)
        case grpc.StatusCode.FAILED_PRECONDITION:
            return BundleMismatchError(f"{message}\nFetch the server's bundle with `device-agent pull`.")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineError(message)
        case grpc.StatusCode.UNAUTHENTICATED:
            return UnauthenticatedError(message)
        case grpc.StatusCode.PERMISSION_DENIED:
            return PermissionDeniedError(message)
        case grpc.StatusCode.INTERNAL | grpc.StatusCode.UNKNOWN:
            return GaveUpError(f"the server gave up on the question: {message}")
        case grpc.StatusCode.CANCELLED:
            return UplinkError(f"the server gave up on the question: {message}")
        case _:
            return RefusedError(message, field=field, given=given_as(field), code=code.name)
