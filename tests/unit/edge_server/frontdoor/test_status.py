from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from edge_server import errors
from edge_server.frontdoor.status import STATUSES, failure_of, known, status_of


def tree(root: type[errors.EdgeServerError]) -> Iterator[type[errors.EdgeServerError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


# Errors of commands; a door never sees them.
NOT_OF_QUESTIONS = {
    "CanaryError",
    "ConfigurationError",
    "ModelError",
    "WeightsError",
    "ExportError",
    "DatasetError",
    "SettingsError",
}


@pytest.mark.parametrize("kind", list(tree(errors.EdgeServerError)), ids=lambda kind: kind.__name__)
def test_every_error_that_a_question_can_end_with_has_a_status_of_its_own(
    kind: type[errors.EdgeServerError],
) -> None:
    if kind.__name__ in NOT_OF_QUESTIONS:
        return
    ancestors = [ancestor for ancestor in kind.__mro__ if ancestor in STATUSES]
    assert ancestors[0] is not errors.EdgeServerError or kind is errors.EdgeServerError


@pytest.mark.parametrize(
    ("error", "code", "http"),
    [
        (errors.InvalidQuestionError("a", "b"), grpc.StatusCode.INVALID_ARGUMENT, 400),
        (errors.QuestionTooLargeError("a", "b"), grpc.StatusCode.INVALID_ARGUMENT, 413),
        (errors.BundleMismatchError("a", "b"), grpc.StatusCode.FAILED_PRECONDITION, 412),
        (errors.SessionNotFoundError("a"), grpc.StatusCode.NOT_FOUND, 404),
        (errors.RequestConflictError("a"), grpc.StatusCode.ALREADY_EXISTS, 409),
        (
            errors.EngineOverloadedError("a", reason="queue", retry_delay_s=1.0),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            429,
        ),
        (errors.UnauthenticatedError("a", reason="revoked"), grpc.StatusCode.UNAUTHENTICATED, 401),
        (errors.PermissionDeniedError("a", "b", reason="c"), grpc.StatusCode.PERMISSION_DENIED, 403),
        (errors.DrainingError(), grpc.StatusCode.UNAVAILABLE, 503),
        (errors.DeadlineExpiredError(1.0), grpc.StatusCode.DEADLINE_EXCEEDED, 504),
        (errors.QuestionCancelledError(), grpc.StatusCode.CANCELLED, 499),
        (errors.EngineFailureError("a"), grpc.StatusCode.INTERNAL, 500),
    ],
)
def test_statuses_are_those_of_the_contract(
    error: errors.EdgeServerError, code: grpc.StatusCode, http: int
) -> None:
    status = status_of(error)
    assert (status.grpc, status.http) == (code, http)
    assert failure_of(error).code == code.value[0]


def test_a_retry_delay_is_never_rounded_to_nothing() -> None:
    error = errors.AdmissionRefusedError("full", reason="sessions", retry_delay_s=0.0001)
    assert failure_of(error).retry_delay_ms == 1


def test_what_happened_inside_stays_inside() -> None:
    assert "secret" not in str(known(RuntimeError("secret")))
