"""How an answer is to be decoded, checked before the engine is asked: the same bounds at every door."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edge_server.engine import Sampling
from edge_server.errors import InvalidQuestionError
from protos.names import (
    MAX_ABS_LOGIT_BIAS,
    MAX_ABS_PENALTY,
    MAX_ALTERNATIVES,
    MAX_LOGIT_BIASES,
    MAX_STOP_CHARS,
    MAX_STOPS,
    MAX_TEMPERATURE,
)


def check_biases(count: int) -> None:
    """Let so many tokens with a bias pass, before they are looked at.

    Raises:
        InvalidQuestionError: they are too many.
    """
    if count > MAX_LOGIT_BIASES:
        raise InvalidQuestionError("logit_bias", f"holds {count} tokens; at most {MAX_LOGIT_BIASES}")


def check_sampling(sampling: Sampling) -> None:
    """Let a way to sample pass that makes sense; which ids there are is the model's business.

    Raises:
        InvalidQuestionError: names the field, what was found and what is allowed.
    """
    _within("temperature", sampling.temperature, 0.0, MAX_TEMPERATURE)
    if not 0.0 < sampling.top_p <= 1.0:
        raise InvalidQuestionError("top_p", f"is {sampling.top_p:g}; allowed: above 0, up to 1")
    _within("frequency_penalty", sampling.frequency_penalty, -MAX_ABS_PENALTY, MAX_ABS_PENALTY)
    _within("presence_penalty", sampling.presence_penalty, -MAX_ABS_PENALTY, MAX_ABS_PENALTY)
    check_biases(len(sampling.logit_bias))
    for _, bias in sampling.logit_bias:
        _within("logit_bias", bias, -MAX_ABS_LOGIT_BIAS, MAX_ABS_LOGIT_BIAS)
    if not 0 <= sampling.alternatives <= MAX_ALTERNATIVES:
        raise InvalidQuestionError(
            "top_logprobs", f"is {sampling.alternatives}; allowed: 0 to {MAX_ALTERNATIVES}"
        )


def check_stops(stop: Sequence[str]) -> None:
    """Let texts pass that end an answer.

    Raises:
        InvalidQuestionError: names the field, what was found and what is allowed.
    """
    if len(stop) > MAX_STOPS:
        raise InvalidQuestionError("stop", f"holds {len(stop)} texts; at most {MAX_STOPS}")
    for text in stop:
        if not 1 <= len(text) <= MAX_STOP_CHARS:
            raise InvalidQuestionError(
                "stop", f"holds a text of {len(text)} characters; allowed: 1 to {MAX_STOP_CHARS}"
            )


def _within(field: str, value: float, least: float, most: float) -> None:
    # Written so that what is no number is refused.
    if not least <= value <= most or math.isnan(value):
        raise InvalidQuestionError(field, f"is {value:g}; allowed: {least:g} to {most:g}")
