"""Answers between engine and door: events and errors of the engine as messages, and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from edge_server import errors
from edge_server.engine import Completion, Delta, Token
from edge_server.engine.request import FinishReason
from edge_server.errors import EdgeServerError
from protos.tokenlink.v1 import cluster_pb2 as cb
from protos.tokenlink.v1 import tokenlink_pb2 as pb


def text_of(delta: Delta) -> cb.TextPiece:
    """A piece of an answer as a message."""
    return cb.TextPiece(text=delta.text, tokens=map(_sent_token, delta.tokens))


def delta_of(piece: cb.TextPiece) -> Delta:
    """A piece of an answer."""
    return Delta(piece.text, _tokens(piece.tokens))


def whole_of(completion: Completion) -> cb.WholeAnswer:
    """A whole answer as a message."""
    return cb.WholeAnswer(
        answer=pb.Answer(
            text=completion.text,
            probability=completion.probability,
            prompt_tokens=completion.prompt_tokens,
            answer_tokens=completion.answer_tokens,
            queue_s=completion.queue_s,
            compute_s=completion.compute_s,
            finish_reason=completion.finish_reason,
            confidence=completion.confidence,
            abstained=completion.abstained,
            guess=completion.guess,
        ),
        first_token_s=completion.first_token_s,
        logprobs=completion.logprobs,
        tokens=map(_sent_token, completion.tokens),
    )


def completion_of(whole: cb.WholeAnswer) -> Completion:
    """A whole answer."""
    answer = whole.answer
    return Completion(
        text=answer.text,
        probability=answer.probability,
        prompt_tokens=answer.prompt_tokens,
        answer_tokens=answer.answer_tokens,
        queue_s=answer.queue_s,
        compute_s=answer.compute_s,
        finish_reason=cast(FinishReason, answer.finish_reason),
        first_token_s=whole.first_token_s,
        logprobs=tuple(whole.logprobs),
        tokens=_tokens(whole.tokens),
        confidence=answer.confidence if answer.HasField("confidence") else None,
        abstained=answer.abstained,
        guess=answer.guess,
    )


def refusal_of(error: EdgeServerError) -> cb.Refusal:
    """Why a question got no answer, as a message."""
    field = error.field if isinstance(error, errors.InvalidQuestionError) else ""
    return cb.Refusal(kind=type(error).__name__, message=str(error), field=field)


def error_of(refusal: cb.Refusal, deadline_s: float) -> EdgeServerError:
    """Why a question got no answer.

    Args:
        refusal: the message.
        deadline_s: of the question [s].
    """
    match refusal.kind:
        case "InvalidQuestionError" | "TextTooLongError" | "QuestionTooLargeError":
            return errors.InvalidQuestionError(refusal.field, refusal.message)
        case "DeadlineExpiredError":
            return errors.DeadlineExpiredError(deadline_s)
        case "QuestionCancelledError":
            return errors.QuestionCancelledError()
        case _:
            return errors.EngineFailureError(refusal.message)


def _sent_token(token: Token) -> cb.AnswerToken:
    alternatives = [cb.Alternative(token_id=id_, logprob=logprob) for id_, logprob in token.alternatives]
    return cb.AnswerToken(token_id=token.token_id, logprob=token.logprob, alternatives=alternatives)


def _tokens(sent: Iterable[cb.AnswerToken]) -> tuple[Token, ...]:
    return tuple(
        Token(each.token_id, each.logprob, tuple((one.token_id, one.logprob) for one in each.alternatives))
        for each in sent
    )
