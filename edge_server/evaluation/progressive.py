"""A ladder of token lengths: few tokens first, and more only of questions whose answer is not sure.

What happens to a question that is asked with ``--progressive``: the first length is sent, and where the
answer's calibrated confidence is below a threshold the server asks for the next. Every round meets the
channel anew. Judged: channel uses in the mean, those of the server's requests included, and how often the
last answer is right, beside one-shot.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device_agent.channel import ChannelConfig
from device_agent.progressive import Ladder
from edge_server.engine.calibration import Calibration
from edge_server.evaluation.accuracy import Evaluator, Setting
from edge_server.evaluation.asking import Ask, clip_sent, say
from protos.names import REQUEST_CHANNEL_USES

Floats = npt.NDArray[np.float64]

#: Thresholds that are tried.
THRESHOLDS = tuple(round(0.5 + 0.01 * step, 2) for step in range(50))


@dataclass(frozen=True)
class Costs:
    """What rounds take of the air.

    Attributes:
        symbols: complex symbols of a token, of all modalities together.
        nested: whether a round sends what is new alone; else the whole block of its length.
        request: channel uses of asking for a round.
    """

    symbols: float
    nested: bool = False
    request: float = REQUEST_CHANNEL_USES

    def spent(self, lengths: Sequence[int]) -> Floats:
        """Channel uses until after each round of a ladder."""
        tokens = np.asarray(lengths, np.float64) if self.nested else np.cumsum(lengths, dtype=np.float64)
        return tokens * self.symbols + self.request * np.arange(len(lengths))


@dataclass(frozen=True)
class Climbed:
    """What came of it.

    Attributes:
        accuracy: share of right answers.
        channel_uses: in the mean, over all rounds and requests.
        rounds: share of questions that ended with each.
    """

    accuracy: float
    channel_uses: float
    rounds: tuple[float, ...]


@dataclass(frozen=True)
class Rounds:
    """Every question asked at every length.

    Attributes:
        lengths: L, rising.
        confidence_LN: calibrated; 1 where it is not known, since then nobody asks again.
        right_LN: 1 or 0.
    """

    lengths: tuple[int, ...]
    confidence_LN: Floats
    right_LN: Floats

    def one_shot(self, length: int) -> float:
        """Accuracy at one length."""
        return float(self.right_LN[self.lengths.index(length)].mean())

    def climb(self, ladder: Ladder, costs: Costs) -> Climbed:
        """What a ladder makes of these."""
        rows = [self.lengths.index(length) for length in ladder.lengths]
        sure_RN = self.confidence_LN[rows] >= ladder.until
        sure_RN[-1] = True
        last_N = np.argmax(sure_RN, axis=0)
        right_RN = self.right_LN[rows]
        return Climbed(
            accuracy=float(right_RN[last_N, np.arange(len(last_N))].mean()),
            channel_uses=float(costs.spent(ladder.lengths)[last_N].mean()),
            rounds=tuple(float(np.mean(last_N == row)) for row in range(len(rows))),
        )


def ask_at_every_length(
    evaluator: Evaluator,
    calibration: Calibration,
    lengths: Sequence[int],
    channel: ChannelConfig,
    seed: int,
    advance: Callable[[int], None] = lambda done: None,
) -> Rounds:
    """Ask the evaluator's questions at each length, each over a channel of its own.

    Args:
        evaluator: of the model.
        calibration: of it.
        lengths: rising.
        channel: what lies between.
        seed: of the channel realisations.
        advance: told of questions that were asked.
    """
    confidence, right = [], []
    for number, length in enumerate(lengths):
        setting = Setting(channel, length, seed * 1000 + number)
        asked = [
            Ask(question.text, clip_sent(evaluator, question.clip, setting))
            for question in evaluator.questions
        ]
        said = say(evaluator, asked, setting, advance)
        judged = [calibration.judge(each.text, each.logprobs).confidence for each in said]
        confidence.append([1.0 if each is None else each for each in judged])
        right.append([float(s.text == q.answer) for s, q in zip(said, evaluator.questions, strict=True)])
    return Rounds(tuple(lengths), np.array(confidence), np.array(right))


def best_ladder(
    validation: Sequence[Rounds],
    full: int,
    may_lose: float,
    costs: Costs,
    belows: Sequence[Sequence[int]] | None = None,
) -> Ladder:
    """The ladder up to a length that takes least and loses to one-shot at it, in no channel, more than this.

    Args:
        validation: of each channel, on the validation split.
        full: the longest length, with which every ladder ends.
        may_lose: of the accuracy.
        costs: what rounds take.
        belows: rungs below the longest length that are tried; None: any one to three of those asked with.
    """
    shorter = [length for length in validation[0].lengths if length < full]
    if belows is None:
        belows = [below for count in range(1, 4) for below in itertools.combinations(shorter, count)]
    ladders = [Ladder((*below, full), threshold) for below in belows for threshold in THRESHOLDS]

    def uses(ladder: Ladder) -> float:
        climbed = [rounds.climb(ladder, costs) for rounds in validation]
        lost = max(r.one_shot(full) - c.accuracy for r, c in zip(validation, climbed, strict=True))
        return float(np.mean([c.channel_uses for c in climbed])) if lost <= may_lose else np.inf

    return min([Ladder((full,), 1.0), *ladders], key=uses)
