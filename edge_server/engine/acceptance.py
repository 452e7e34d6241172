"""Whether a question can be asked, and what it is completed by: the same wherever it is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from edge_server.engine.config import EngineConfig
from edge_server.engine.ports import InvalidPromptError, Model, PromptTooLongError
from edge_server.engine.request import Job, Request
from edge_server.errors import InvalidQuestionError, TextTooLongError


def deadline_of(request: Request, config: EngineConfig) -> float:
    """Within which time of its submission a question is to be answered [s].

    Args:
        request: as it was asked.
        config: says what holds where it does not say, and the longest.

    Raises:
        InvalidQuestionError: it says a time that is none.
    """
    deadline_s = request.deadline_s or config.default_deadline_s
    if not deadline_s > 0:
        raise InvalidQuestionError("deadline_s", f"is {deadline_s}; must be above 0")
    return min(deadline_s, config.max_deadline_s)


def accepted(
    request: Request, model: Model, config: EngineConfig, new_seed: Callable[[], int], now: float
) -> Job:
    """Check a question, and complete it by what it leaves open.

    Args:
        request: as it was asked.
        model: what is asked.
        config: bounds.
        new_seed: for a question that samples and brings none.
        now: monotonic seconds.

    Raises:
        InvalidQuestionError: the model cannot take it, or it would not fit a batch alone.
    """
    max_new_tokens = request.max_new_tokens or config.default_new_tokens
    if not 0 < max_new_tokens <= config.max_new_tokens:
        raise InvalidQuestionError(
            "max_new_tokens", f"is {max_new_tokens}; allowed: 1 to {config.max_new_tokens}"
        )
    deadline_s = deadline_of(request, config)
    sampling = request.prompt.sampling
    if sampling.draws and sampling.seed is None:
        # Drawn once: a question that is run again comes out the same.
        seeded = replace(sampling, seed=new_seed())
        request = replace(request, prompt=replace(request.prompt, sampling=seeded))
    try:
        positions = model.check(request.prompt)
    except PromptTooLongError as error:
        raise TextTooLongError(
            error.field, found=error.found, allowed=error.allowed, unit=error.unit
        ) from error
    except InvalidPromptError as error:
        raise InvalidQuestionError(error.field, str(error)) from error
    # An answer that fills the model's context ends there, as one that reaches max_new_tokens does.
    max_new_tokens = min(max_new_tokens, model.max_positions - positions)
    if positions + max_new_tokens > config.max_batch_positions:
        raise InvalidQuestionError(
            "question",
            f"takes {positions} positions and up to {max_new_tokens} for its answer; "
            f"at most {config.max_batch_positions} together",
        )
    return Job(
        request,
        positions=positions,
        max_new_tokens=max_new_tokens,
        deadline_s=deadline_s,
        now=now,
    )
