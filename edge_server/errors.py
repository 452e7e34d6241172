"""What can go wrong at the edge server, as one tree.

    EdgeServerError
    ├── InvalidQuestionError           INVALID_ARGUMENT     400   names the field
    │   ├── TextTooLongError           INVALID_ARGUMENT     400   ... because it does not fit the model
    │   └── QuestionTooLargeError      INVALID_ARGUMENT     413   ... because it is larger than allowed
    ├── BundleMismatchError            FAILED_PRECONDITION  412   names both hashes
    │   └── SceneBundleError           FAILED_PRECONDITION  412   ... of a scene whose model is gone
    ├── NotFoundError                  NOT_FOUND            404   no such thing here
    │   └── SessionNotFoundError       NOT_FOUND            404   unknown, closed or expired: open a new one
    ├── RequestConflictError           ALREADY_EXISTS       409   request_id was used for another question
    ├── UnauthenticatedError           UNAUTHENTICATED      401   no credential, or not a good one
    ├── PermissionDeniedError          PERMISSION_DENIED    403   a good one, for something else
    ├── OverloadedError                RESOURCE_EXHAUSTED   429   carries a retry delay and a reason
    │   ├── EngineOverloadedError      RESOURCE_EXHAUSTED   429   ... the queue is full
    │   └── AdmissionRefusedError      RESOURCE_EXHAUSTED   429   ... the cell or the ingest pool is full
    ├── DrainingError                  UNAVAILABLE          503   this server is going down: ask another
    ├── DeadlineExpiredError           DEADLINE_EXCEEDED    504   no answer within the question's deadline
    ├── QuestionCancelledError         CANCELLED            499   its asker took it back
    ├── EngineFailureError             INTERNAL             500   the model failed on this question
    ├── ModelError                     (exit code 2)              a model folder cannot be read
    ├── ExportError                    (exit code 2)              a bundle differs from the model behind it
    ├── DatasetError                   (exit code 2)              a data set cannot be made or read
    ├── WeightsError                   (exit code 2)              published weights cannot be had
    └── ConfigurationError             (exit code 2)              a setting that cannot be

``edge_server.frontdoor.status`` is the one place that turns them into gRPC and HTTP status codes.
"""

from __future__ import annotations

from collections.abc import Sequence


class EdgeServerError(Exception):
    """Root of the tree. ``str(error)`` is one sentence that the asker can act on."""


class InvalidQuestionError(EdgeServerError):
    """A question that cannot be asked.

    Args:
        field: what is at fault, as a path (``"payloads[0].dtype"``).
        message: what was found and what is allowed.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message if not field or message.startswith(field) else f"{field}: {message}")
        self.field = field


class TextTooLongError(InvalidQuestionError):
    """A text, or a whole prompt, that does not fit the model.

    Args:
        field: as above.
        found: how long it is.
        allowed: how long it may be.
        unit: of both.
    """

    def __init__(self, field: str, *, found: int, allowed: int, unit: str = "language tokens") -> None:
        super().__init__(field, f"has {found} {unit}; at most {allowed} allowed")
        self.found = found
        self.allowed = allowed
        self.unit = unit


class QuestionTooLargeError(InvalidQuestionError):
    """A question, or a part of one, that is larger than allowed."""


class BundleMismatchError(EdgeServerError):
    """The device runs another bundle than those that this server's model answers for."""

    def __init__(self, device_hash: str, server_hashes: Sequence[str]) -> None:
        super().__init__(
            f"bundle_hash: the device runs bundle {device_hash or '(none)'}, "
            f"this server answers for {' and '.join(server_hashes)}; fetch one with GetBundle"
        )
        self.device_hash = device_hash
        self.server_hashes = tuple(server_hashes)


class SceneBundleError(BundleMismatchError):
    """A scene's tokens are for a model that is not served any more: this one would misread them."""

    def __init__(self, scene_id: str, device: str, scene_hash: str, server_hashes: Sequence[str]) -> None:
        super().__init__(scene_hash, server_hashes)
        self.args = (
            f"scenes: scene {scene_id} of {device!r} was made with bundle {scene_hash}, this server "
            f"answers for {' and '.join(server_hashes)}; only the model that it was made for can read it",
        )


class NotFoundError(EdgeServerError):
    """Something was named that this server does not have."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class SessionNotFoundError(NotFoundError):
    """The session is unknown, closed or expired; the remedy is the same for all three."""

    def __init__(self, session_id: str) -> None:
        super().__init__("session_id", f"session_id: no session {session_id[:64]!r}; open a new one")


class RequestConflictError(EdgeServerError):
    """A request_id that this device already used for a question with other content."""

    def __init__(self, request_id: str) -> None:
        super().__init__(
            f"request_id: {request_id!r} was already used for another question of this device; "
            "only the same question may be sent again under it"
        )
        self.request_id = request_id


class UnauthenticatedError(EdgeServerError):
    """Who asks has not shown who they are: no credential, or one that is unknown, expired or revoked.

    Args:
        message: what is wrong with it, and what to do.
        reason: one word for metrics and logs (``"revoked"``).
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class PermissionDeniedError(EdgeServerError):
    """Who asks is known, and may not have this.

    Args:
        field: what named it, as a path (``"device_id"``).
        message: what was found and what is allowed.
        reason: one word for metrics and logs.
    """

    def __init__(self, field: str, message: str, *, reason: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.reason = reason


class OverloadedError(EdgeServerError):
    """Too much at once.

    Args:
        message: what is full.
        reason: the bound that was hit, one word for metrics (``"queue"``, ``"sessions"``).
        retry_delay_s: after how long another try is likely to succeed [s].
    """

    def __init__(self, message: str, *, reason: str, retry_delay_s: float) -> None:
        super().__init__(f"{message}; try again in {retry_delay_s:.2f} s")
        self.reason = reason
        self.retry_delay_s = retry_delay_s


class EngineOverloadedError(OverloadedError):
    """The engine's queue, or the user's share of it, is full."""


class AdmissionRefusedError(OverloadedError):
    """A bound of the cell, or of the ingest pool, is reached."""


class DrainingError(EdgeServerError):
    """This server is shutting down: it finishes what it has and takes nothing new."""

    def __init__(self, retry_delay_s: float = 1.0) -> None:
        super().__init__("the server is draining; ask another one, or this one again after its restart")
        self.retry_delay_s = retry_delay_s


class DeadlineExpiredError(EdgeServerError):
    """The question's deadline passed before its answer was complete."""

    def __init__(self, deadline_s: float) -> None:
        super().__init__(f"no answer within the deadline of {deadline_s:.3g} s")


class QuestionCancelledError(EdgeServerError):
    """The asker took the question back, or went away."""

    def __init__(self) -> None:
        super().__init__("the question was cancelled")


class EngineFailureError(EdgeServerError):
    """The model failed on this question; other questions of its batch were answered."""


class ConfigurationError(EdgeServerError):
    """A setting that cannot be; names it, what was found and what is allowed."""


class WeightsError(EdgeServerError):
    """Published weights that cannot be fetched, or are not what they should be."""


class DatasetError(EdgeServerError):
    """A data set, or what one is made from, is missing or broken; says what to do about it."""


class ModelError(EdgeServerError):
    """A model folder is missing, broken, or does not fit its own description."""


class ExportError(EdgeServerError):
    """An exported graph does not do what the torch model does."""
