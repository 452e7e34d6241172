"""What ended a question, or turned it away, in the words of whoever counts it."""

from __future__ import annotations

from edge_server.engine.observer import QuestionEnd
from edge_server.errors import (
    DeadlineExpiredError,
    DrainingError,
    EdgeServerError,
    EngineFailureError,
    EngineOverloadedError,
    InvalidQuestionError,
    QuestionCancelledError,
)


def outcome_of(error: EdgeServerError) -> QuestionEnd:
    """How an accepted question ended that got no answer."""
    match error:
        case QuestionCancelledError() | DrainingError():
            return "cancelled"
        case DeadlineExpiredError():
            return "expired"
        case EngineOverloadedError():
            return "overloaded"
        case InvalidQuestionError():
            return "invalid"
        case _:
            return "failed"


def reason_of(error: EdgeServerError) -> str:
    """Why a question was not accepted."""
    match error:
        case EngineOverloadedError():
            return error.reason
        case DrainingError():
            return "draining"
        case EngineFailureError():
            return "failed"
        case _:
            return "invalid"
