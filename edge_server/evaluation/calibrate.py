"""Fits how sure a model's answers are, and below what they are held back.

On questions of the validation split, plain and in training's wordings, over several SNRs: confidence by Platt
scaling, and the doubt above which and the confidence below which no more than a given share of them is held
back, together. Nothing from elsewhere
is looked at: what a model does with that is judged by :mod:`edge_server.evaluation.out_of_domain`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edge_server.data.soundstage.wordings import training_system, training_wording
from edge_server.engine.calibration import Calibration
from edge_server.evaluation.accuracy import Evaluator, Said, Setting
from edge_server.evaluation.asking import Ask, clip_sent, say, values_of

SNRS_DB = (20.0, 10.0, 5.0, 0.0, -5.0)
"""Over which it is fitted, evenly."""
#: Bins of equal numbers of answers, for the error of calibration.
_BINS = 15
_NEWTON_STEPS = 50
_FAR = 60.0
#: Of what may be held back, this share by doubt; the rest by confidence.
_OF_DOUBT = 0.9
#: Of in-domain answers, this share may be held back. It is what is promised of held-out ones, which are less
#: wildly worded than those of training that this is fitted on, and lose less.
MAY_LOSE = 0.03


@dataclass(frozen=True)
class Answered:
    """An answer whose truth is known."""

    said: Said
    """The answer."""
    right: bool
    """Whether it is the truth."""


def calibrate(
    evaluator: Evaluator,
    settings: Sequence[Setting],
    seed: int,
    *,
    may_lose: float = MAY_LOSE,
    advance: Callable[[int], None] = lambda done: None,
) -> Calibration:
    """Fit a calibration to a model.

    Args:
        evaluator: of the model, on a split that is not judged on.
        settings: channels, each of which counts alike.
        seed: of wordings.
        may_lose: share of answers that may be held back.
        advance: told of questions that were asked.
    """
    return fit([a for setting in settings for a in in_domain(evaluator, setting, seed, advance)], may_lose)


def fit(
    answered: Sequence[Answered], may_lose: float = MAY_LOSE, unsure: str = Calibration.unsure
) -> Calibration:
    """Fit a calibration to answers.

    Args:
        answered: of several channels, alike many of each.
        may_lose: share of them that may be held back.
        unsure: what the model says where it cannot know; that counts as held back.
    """
    longest = max(len(a.said.logprobs) for a in answered)
    start = Calibration(1.0, 0.0, 0.0, longest, unsure)
    spoken = [a for a in answered if not start.is_unsure(a.said.text)]
    p = np.asarray([np.exp(sum(a.said.logprobs)) for a in spoken])
    scale, offset = _platt(p, np.asarray([a.right for a in spoken], np.float64))
    fitted = replace(start, scale=scale, offset=offset)
    silent = len(answered) - len(spoken)
    allowed = max(int(may_lose * len(answered)) - silent, 0)
    doubt = _level(np.sort([-a.said.doubt for a in spoken]), int(_OF_DOUBT * allowed))
    fitted = replace(fitted, doubt=min(round(-doubt, 4), 1.0))
    confidence = np.sort([fitted.confidence(float(each)) for each in p])
    # Whoever doubts is seldom confident: how many both hold back is counted, not reckoned.
    for index in range(allowed, -1, -1):
        found = replace(fitted, threshold=round(float(_level(confidence, index)), 4))
        judged = [found.judge(a.said.text, a.said.logprobs, a.said.doubt) for a in spoken]
        if sum(each.abstained for each in judged) <= allowed:
            return found
    return replace(fitted, threshold=0.0)


def _level(rising: npt.NDArray[np.float64], below: int) -> float:
    """What so many of these values lie below."""
    return float(rising[min(below, len(rising) - 1)])


def in_domain(
    evaluator: Evaluator, setting: Setting, seed: int, advance: Callable[[int], None] = lambda done: None
) -> list[Answered]:
    """The evaluator's questions, every other one in a wording that training may draw."""
    asked = []
    for index, question in enumerate(evaluator.questions):
        rng = np.random.default_rng([seed, 3, index])
        sent = clip_sent(evaluator, question.clip, setting)
        if index % 2:
            text = training_wording(question.template, values_of(question), rng)
            context = training_system(rng) if index % 4 == 1 else ""
            asked.append(Ask(text, sent, context))
        else:
            asked.append(Ask(question.text, sent))
    said = say(evaluator, asked, setting, advance)
    return [
        Answered(each, each.text == question.answer)
        for each, question in zip(said, evaluator.questions, strict=True)
    ]


def expected_error(confidence: npt.NDArray[np.float64], right: npt.NDArray[np.float64]) -> float:
    """Expected calibration error over bins of equal numbers of answers (Nguyen and O'Connor 2015)."""
    order = np.argsort(confidence, kind="stable")
    gaps = [
        abs(float(confidence[part].mean() - right[part].mean())) * len(part)
        for part in np.array_split(order, _BINS)
        if len(part)
    ]
    return sum(gaps) / max(len(order), 1)


def _platt(p: npt.NDArray[np.float64], right: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Scale and offset of logit(p), by Newton's method on the logistic loss with Platt's targets."""
    p = np.clip(p, 1e-7, 1.0 - 1e-7)
    x = np.stack([np.log(p / (1.0 - p)), np.ones_like(p)], axis=1)
    many, few = right.sum(), len(right) - right.sum()
    target = np.where(right > 0.5, (many + 1.0) / (many + 2.0), 1.0 / (few + 2.0))
    beta = np.asarray([1.0, 0.0])
    for _ in range(_NEWTON_STEPS):
        q = 1.0 / (1.0 + np.exp(-np.clip(x @ beta, -_FAR, _FAR)))
        # Drawn a little towards confidence as it is: answers that are all right, or all wrong, say nothing.
        gradient = x.T @ (target - q) - (beta - np.asarray([1.0, 0.0]))
        hessian = (x * (q * (1.0 - q))[:, None]).T @ x + np.eye(2)
        beta = beta + np.clip(np.linalg.solve(hessian, gradient), -1.0, 1.0)
    return float(beta[0]), float(beta[1])
