"""How well the probability that stops a question is calibrated, over lengths and channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from device_agent.channel import ChannelConfig
from edge_server.engine.calibration import Calibration
from edge_server.evaluation.accuracy import Evaluator
from edge_server.evaluation.calibrate import expected_error
from edge_server.evaluation.progressive import Rounds, ask_at_every_length

LENGTHS = (1, 2, 4, 8, 16)
TEST = "test"
"""The split of the data set that ladders are judged on."""
_MOST_ERROR = 0.03
_CHANNELS = ("awgn", "rayleigh")


@dataclass(frozen=True)
class Plan:
    """What is asked.

    Attributes:
        snrs_db: of each channel [dB].
        seed: of channel realisations.
        questions: of each split.
    """

    snrs_db: tuple[float, ...] = (-5.0, 0.0, 5.0, 10.0, 15.0, 20.0)
    seed: int = 1
    questions: int = 400


QUICK = Plan((0.0,), 1, 24)


def compare(
    splits: Mapping[str, Evaluator],
    calibration: Calibration,
    plan: Plan,
    advance: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Expected calibration error of each split, as JSON.

    Args:
        splits: of the model, none of which it was calibrated on.
        calibration: of it.
        plan: what is asked.
        advance: told of questions that were asked.
    """
    channels = [
        ChannelConfig(model=model, fading="block", snr_db=snr_db)
        for model in _CHANNELS
        for snr_db in plan.snrs_db
    ]
    return {
        "plan": asdict(plan),
        "splits": {
            name: calibrated(
                [
                    ask_at_every_length(evaluator, calibration, LENGTHS, channel, plan.seed, advance)
                    for channel in channels
                ]
            )
            for name, evaluator in splits.items()
        },
    }


def calibrated(rounds: list[Rounds]) -> dict[str, Any]:
    """Expected calibration error of the confidence, over all lengths and at each."""
    confidence_LN = np.concatenate([each.confidence_LN for each in rounds], axis=1)
    right_LN = np.concatenate([each.right_LN for each in rounds], axis=1)
    return {
        "answers": right_LN.size,
        "expected_error": expected_error(confidence_LN.ravel(), right_LN.ravel()),
        "of_lengths": {
            str(length): expected_error(confidence_N, right_N)
            for length, confidence_N, right_N in zip(rounds[0].lengths, confidence_LN, right_LN, strict=True)
        },
    }


def kept(splits: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The promise that is settled, as a row for the table of promises."""
    errors = {name: each["expected_error"] for name, each in splits.items()}
    within = all(error <= _MOST_ERROR for error in errors.values())
    # Another seed's scenes are needed before it is kept; one split is enough to break it.
    settled = within if len(errors) > 1 or not within else None
    return {
        "what": "Calibration error of the probability that stops the uplink, another seed too",
        "measured": "; ".join(f"{name} {error:.3f}" for name, error in errors.items()),
        "met": settled,
        "why": None if settled is not None else "no data set of another seed was given",
    }


def questions_asked(evaluator: Evaluator, plan: Plan) -> int:
    """How many questions :func:`compare` asks of one split."""
    return len(evaluator.questions) * len(LENGTHS) * len(plan.snrs_db) * len(_CHANNELS)
