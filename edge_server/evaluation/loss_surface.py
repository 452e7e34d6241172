"""A model's loss over SNR and token length, per mix of modalities: what joint allocation reckons with.

Of a mix only questions of its own kind count: who sends sound alone asks about sound. The channel is AWGN;
what fades is reckoned by the SNR that it leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import combinations

from device_agent.channel import ChannelConfig
from edge_server.cell.allocation.loss import LossPoint
from edge_server.cell.allocation.surface_file import mix_of
from edge_server.data.annotations import QuestionRow
from edge_server.evaluation.accuracy import Evaluator, Setting

SNRS_DB = (-30.0, -24.0, -18.0, -12.0, -8.0, -4.0, 0.0, 5.0, 10.0, 20.0)
"""From where nothing gets through, which devices are granted too, to where nothing changes any more."""
#: Slots, and the kind of question that is about them alone.
_KIND_OF = {"visual": "Visual", "audio": "Audio"}


def settings_of(
    slots: Sequence[str], token_lengths: Sequence[int], snrs_db: Sequence[float], seed: int
) -> Iterator[tuple[tuple[str, ...], Setting]]:
    """What is asked: every mix of the slots, at every token length and SNR."""
    for count in range(len(slots), 0, -1):
        for mix in combinations(slots, count):
            for length in token_lengths:
                for snr_db in snrs_db:
                    yield mix, Setting(ChannelConfig(model="awgn", snr_db=snr_db), length, seed)


def measure(
    evaluator: Evaluator,
    token_lengths: Sequence[int],
    snrs_db: Sequence[float] = SNRS_DB,
    seed: int = 0,
    advance: Callable[[int], None] = lambda done: None,
) -> dict[str, list[LossPoint]]:
    """The part of wrong answers at every point of every mix for which the split has questions.

    Args:
        evaluator: of the model and the split.
        token_lengths: of the model, at least two.
        snrs_db: at least two [dB].
        seed: of the channel realisations.
        advance: told of questions that were asked.
    """
    found: dict[str, list[LossPoint]] = {}
    for mix, setting in settings_of(tuple(evaluator.link.slots), token_lengths, snrs_db, seed):
        score = evaluator.through_channel(setting, advance, slots=mix, wanted=partial(_is_about, mix))
        if score.asked.total():
            found.setdefault(mix_of(mix), []).append(
                LossPoint(setting.channel.snr_db, setting.token_length, 1.0 - score.accuracy)
            )
    return found


def _is_about(mix: Sequence[str], question: QuestionRow) -> bool:
    """Whether what a mix sends can hold the answer."""
    return len(mix) > 1 or question.type[0] == _KIND_OF.get(mix[0], question.type[0])
