"""The progressive uplink beside one-shot: how many channel uses it saves, at what loss, over SNR.

Of a model that is not nested, as the shipped one: each round sends the block of its length, and requests for
more are counted. All modalities are asked for together (:mod:`edge_server.study.progressive.whom` says what
else). Lengths and threshold of a ladder are chosen on the validation split, for each channel and SNR, so that
it loses nothing there; what it does is told of the test split. (What is chosen is chosen a little luckily:
where half a point might be lost on the validation split, more was on the test split.)
Beside it the shortest one-shot length that loses no more than :data:`MAY_LOSE` there: to send little at once
is no merit of rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from device_agent.channel import ChannelConfig
from device_agent.progressive import Ladder
from edge_server.engine.calibration import Calibration
from edge_server.evaluation.accuracy import Evaluator
from edge_server.evaluation.progressive import Costs, Rounds, ask_at_every_length, best_ladder
from edge_server.model.link import Link
from edge_server.study.figures.answers import spread
from edge_server.study.progressive import sure

FULL = 16
"""Tokens per modality that are usual, and with which every ladder ends."""
MAY_LOSE = 0.005
"""Of the accuracy at :data:`FULL`."""
COMMAND = "edge-server study progressive"
MEASURES = (
    "edge_server/evaluation/progressive.py",
    "edge_server/study/progressive",
    "edge_server/cell/rounds",
)
_LEAST_SAVED = 0.4
_CHANNELS = ("awgn", "rayleigh")


@dataclass(frozen=True)
class Plan:
    """What is asked.

    Attributes:
        snrs_db: of each channel [dB].
        seeds: of channel realisations.
        questions: of each split.
    """

    snrs_db: tuple[float, ...] = (-5.0, 0.0, 5.0, 10.0, 15.0, 20.0)
    seeds: tuple[int, ...] = (1, 2, 3)
    questions: int = 1200


QUICK = Plan((0.0,), (1,), 24)


def compare(
    validation: Evaluator,
    test: Evaluator,
    calibration: Calibration,
    plan: Plan,
    advance: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Every channel and SNR, as JSON.

    Args:
        validation: of the model, on the split that ladders are chosen on.
        test: of the model, on the split that they are judged on.
        calibration: of the model.
        plan: what is asked.
        advance: told of questions that were asked.
    """
    lengths, costs = lengths_of(test), costs_of(test.link)

    def asked(evaluator: Evaluator, channel: ChannelConfig) -> list[Rounds]:
        return [
            ask_at_every_length(evaluator, calibration, lengths, channel, seed, advance)
            for seed in plan.seeds
        ]

    points = []
    for model in _CHANNELS:
        for snr_db in plan.snrs_db:
            channel = ChannelConfig(model=model, fading="block", snr_db=snr_db)
            chosen_on, judged = together(asked(validation, channel)), asked(test, channel)
            ladder = best_ladder([chosen_on], FULL, 0.0, costs)
            point = _point(judged, ladder, _shortest(chosen_on), costs)
            points.append({"channel": model, "snr_db": snr_db, **point})
    found = {
        "full": FULL,
        "may_lose": MAY_LOSE,
        "lengths": list(lengths),
        "seeds": list(plan.seeds),
        "questions": {"val": len(validation.questions), "test": len(test.questions)},
        "points": points,
    }
    return priced(found, costs)


def priced(found: Mapping[str, Any], costs: Costs) -> dict[str, Any]:
    """What was found, with what rounds and requests take, and the means over SNR.

    Args:
        found: as :func:`compare` finds it; of each point its ladder, and what share of questions ended with
            each of its rungs.
        costs: of the model that was asked.
    """
    points = []
    for point in found["points"]:
        spent = costs.spent(point["ladder"]["lengths"])
        points.append({**point, "channel_uses": float(np.dot(point["ended_with"], spent))})
    full_uses = FULL * costs.symbols
    return {
        **found,
        "full_uses": full_uses,
        "request_uses": costs.request,
        "points": points,
        "mean": {
            model: _mean([p for p in points if p["channel"] == model], full_uses) for model in _CHANNELS
        },
    }


def kept(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The promises that a report settles, as rows for the table of promises."""
    means = report["mean"]
    told = "; ".join(
        f"{channel} {mean['saved']:.1%}, {100 * mean['lost']:.2f} points" for channel, mean in means.items()
    )
    rows = [
        {
            "what": "Progressive against one-shot at equal accuracy, -5 to 20 dB: channel uses saved; "
            "accuracy lost",
            "measured": f"{told}; seeds {len(report['seeds'])}",
            "met": all(m["saved"] >= _LEAST_SAVED and m["lost"] <= MAY_LOSE for m in means.values()),
            # A part is as old as it was asked, whatever was asked since.
            "commit": report["rounds_commit"],
        },
    ]
    if "calibration" in report:
        found = report["calibration"]
        rows.append({**sure.kept(found["splits"]), "commit": found["commit"]})
    return rows


def lengths_of(evaluator: Evaluator) -> tuple[int, ...]:
    """Token lengths of a model that are asked with."""
    return tuple(length for length in sorted(evaluator.link.config.token_lengths) if length <= FULL)


def costs_of(link: Link) -> Costs:
    """What rounds of a model take, of clips that are seen and heard."""
    return Costs(len(link.config.modalities) * link.config.channel_dim / 2.0, link.config.nested)


def questions_asked(evaluator: Evaluator, plan: Plan) -> int:
    """How many questions :func:`compare` asks of one split."""
    each = len(evaluator.questions) * len(lengths_of(evaluator))
    return each * len(plan.seeds) * len(plan.snrs_db) * len(_CHANNELS)


def together(rounds: Sequence[Rounds]) -> Rounds:
    """Those of several seeds as if they were of one."""
    return Rounds(
        rounds[0].lengths,
        np.concatenate([each.confidence_LN for each in rounds], axis=1),
        np.concatenate([each.right_LN for each in rounds], axis=1),
    )


def _shortest(rounds: Rounds) -> int:
    """The shortest length that at once loses no more than a ladder may."""
    full = rounds.one_shot(FULL)
    return next(length for length in rounds.lengths if rounds.one_shot(length) >= full - MAY_LOSE)


def _point(judged: Sequence[Rounds], ladder: Ladder, shortest: int, costs: Costs) -> dict[str, Any]:
    climbed = [rounds.climb(ladder, costs) for rounds in judged]
    return {
        "ladder": asdict(ladder),
        "ended_with": np.mean([each.rounds for each in climbed], axis=0).tolist(),
        "accuracy": spread([each.accuracy for each in climbed]),
        "full_accuracy": spread([rounds.one_shot(FULL) for rounds in judged]),
        "shortest": shortest,
        "shortest_accuracy": spread([rounds.one_shot(shortest) for rounds in judged]),
    }


def _mean(points: Sequence[dict[str, Any]], full_uses: float) -> dict[str, float]:
    """Over SNR, in the mean: what is saved of the uses at once, and what is lost of the accuracy."""
    uses = float(np.mean([point["channel_uses"] for point in points]))
    full, climbed = (
        float(np.mean([point[key]["mean"] for point in points])) for key in ("full_accuracy", "accuracy")
    )
    return {
        "channel_uses": uses,
        "saved": 1.0 - uses / full_uses,
        "lost": full - climbed,
        "shortest_saved": 1.0 - float(np.mean([point["shortest"] for point in points])) / FULL,
    }
