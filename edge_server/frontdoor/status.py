"""Errors of the edge server as status codes of gRPC and HTTP: the one place where they are mapped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import grpc

from edge_server import errors
from protos.tokenlink.v1 import tokenlink_pb2 as pb


@dataclass(frozen=True)
class Status:
    """What an error is at both doors.

    Attributes:
        grpc: status code of gRPC, also the code of a ``Failure`` frame.
        http: status code of HTTP.
        kind: ``type`` of the JSON error, in OpenAI's words.
    """

    grpc: grpc.StatusCode
    http: int
    kind: str

    @property
    def code(self) -> str:
        """``code`` of the JSON error: the gRPC name in lower case."""
        return self.grpc.name.lower()

    @property
    def number(self) -> int:
        """The gRPC status code as a number."""
        number: int = self.grpc.value[0]
        return number


_INTERNAL = Status(grpc.StatusCode.INTERNAL, 500, "server_error")

STATUSES: Mapping[type[errors.EdgeServerError], Status] = MappingProxyType(
    {
        errors.EdgeServerError: _INTERNAL,
        errors.InvalidQuestionError: Status(grpc.StatusCode.INVALID_ARGUMENT, 400, "invalid_request_error"),
        errors.QuestionTooLargeError: Status(grpc.StatusCode.INVALID_ARGUMENT, 413, "invalid_request_error"),
        errors.BundleMismatchError: Status(grpc.StatusCode.FAILED_PRECONDITION, 412, "invalid_request_error"),
        errors.NotFoundError: Status(grpc.StatusCode.NOT_FOUND, 404, "invalid_request_error"),
        errors.RequestConflictError: Status(grpc.StatusCode.ALREADY_EXISTS, 409, "invalid_request_error"),
        errors.UnauthenticatedError: Status(grpc.StatusCode.UNAUTHENTICATED, 401, "authentication_error"),
        errors.PermissionDeniedError: Status(grpc.StatusCode.PERMISSION_DENIED, 403, "permission_error"),
        errors.OverloadedError: Status(grpc.StatusCode.RESOURCE_EXHAUSTED, 429, "rate_limit_error"),
        errors.DrainingError: Status(grpc.StatusCode.UNAVAILABLE, 503, "server_error"),
        errors.DeadlineExpiredError: Status(grpc.StatusCode.DEADLINE_EXCEEDED, 504, "server_error"),
        errors.QuestionCancelledError: Status(grpc.StatusCode.CANCELLED, 499, "invalid_request_error"),
        errors.EngineFailureError: _INTERNAL,
    }
)
"""Status of each error; one that is not named has the status of its nearest ancestor."""


def status_of(error: errors.EdgeServerError) -> Status:
    """The status of an error."""
    for ancestor in type(error).__mro__:
        if ancestor in STATUSES:
            return STATUSES[ancestor]
    return _INTERNAL


def known(error: Exception) -> errors.EdgeServerError:
    """The error itself, or one that says nothing of what happened inside if it is none of ours."""
    if isinstance(error, errors.EdgeServerError):
        return error
    return errors.EngineFailureError("an unexpected error; the server's log has it")


def field_of(error: errors.EdgeServerError) -> str:
    """The field at fault, as a path; empty where none was."""
    match error:
        case errors.InvalidQuestionError() | errors.NotFoundError() | errors.PermissionDeniedError():
            return error.field
        case errors.SceneBundleError():
            return "scenes"
        case errors.BundleMismatchError():
            return "bundle_hash"
        case errors.RequestConflictError():
            return "request_id"
        case _:
            return ""


def retry_delay_s(error: errors.EdgeServerError) -> float | None:
    """After how long another try is worth it [s]; None where it is not, or not known."""
    match error:
        case errors.OverloadedError() | errors.DrainingError():
            return error.retry_delay_s
        case _:
            return None


def failure_of(error: errors.EdgeServerError) -> pb.Failure:
    """An error as the frame that ends a question."""
    delay_s = retry_delay_s(error)
    return pb.Failure(
        code=status_of(error).number,
        message=str(error),
        field=field_of(error),
        retry_delay_ms=0 if delay_s is None else math.ceil(delay_s * 1000),
    )
