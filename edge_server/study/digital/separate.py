"""Separate source and channel coding: the best JPEG and Opus that fit into a codeword, or nothing.

    budget of channel uses ─▶ division, modulation, rate ─▶ bits ─▶ per clip the best step of the ladder ─▶
    channel ─▶ decoded: the encoders see what the codec left; not decoded, or nothing fits: modality lost

Link adaptation knows the channel's model and mean SNR, and how accurate the answers are for each pair of
steps; it picks what has the highest expected accuracy. It does not know the gain of block fading beforehand.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from device_agent.channel import ChannelConfig
from edge_server.model.modality import SLOTS
from edge_server.study.digital.codes import Code, Codeword, mean_loss
from edge_server.study.digital.delivery import Choice, Plan, arrivals, divisions
from edge_server.study.digital.ladder import Ladder

StepAccuracy: TypeAlias = Callable[[int | None, int | None], float]
"""Accuracy when all clips arrive at a step of the visual and a step of the audio ladder; None: it is lost."""


@dataclass(frozen=True)
class ReceivedMedia:
    """Encoder tokens at the server, of one slot.

    Attributes:
        features_NPD: float32; zeros where the clip was lost.
        arrived_N: whether it was not.
        step_N: step of the ladder, -1 where nothing fitted.
    """

    features_NPD: npt.NDArray[np.float32]
    arrived_N: npt.NDArray[np.bool_]
    step_N: npt.NDArray[np.int64]


def adapt(
    code: Code,
    channel: ChannelConfig,
    channel_uses: int,
    ladders: Mapping[str, Ladder],
    accuracy: StepAccuracy,
) -> Plan:
    """Choose division, modulation and rate for a channel.

    Args:
        code: which codewords there are.
        channel: its model, fading and mean SNR.
        channel_uses: of a question, all modalities together.
        ladders: of the clips that are sent, per slot.
        accuracy: an estimate, best from other clips than those; asked once for each pair of steps.

    Raises:
        ConfigurationError: the code has no codewords of a length that a division needs.
    """
    known = functools.cache(accuracy)
    best = Plan(dict.fromkeys(SLOTS), known(None, None))
    for uses in divisions(channel_uses):
        offers = [_offers(code, channel, uses[slot], ladders[slot]) for slot in SLOTS]
        for chosen in itertools.product(*offers):
            words: Choice = dict(zip(SLOTS, chosen, strict=True))
            expected = expected_accuracy(code, words, channel, ladders, known)
            if expected > best.expected:
                best = Plan(words, expected)
    return best


def expected_accuracy(
    code: Code,
    words: Choice,
    channel: ChannelConfig,
    ladders: Mapping[str, Ladder],
    accuracy: StepAccuracy,
) -> float:
    """Mean accuracy over clips, and over which of their codewords arrive."""
    visual, audio = (_outcomes(code, words[slot], channel, ladders[slot]) for slot in SLOTS)
    (steps_v, odds_v), (steps_a, odds_a) = visual, audio
    pairs, counts = np.unique(np.stack([steps_v, steps_a]), axis=1, return_counts=True)
    total = 0.0
    for (step_v, step_a), count in zip(pairs.T.tolist(), counts.tolist(), strict=True):
        for here, p_v in _cases(step_v, odds_v):
            total += count * sum(p_v * p_a * accuracy(here, there) for there, p_a in _cases(step_a, odds_a))
    return total / len(steps_v)


def receive(
    code: Code,
    plan: Plan,
    channel: ChannelConfig,
    channel_uses: int,
    ladders: Mapping[str, Ladder],
    seed: int,
) -> dict[str, ReceivedMedia]:
    """Send every clip of the ladders as planned; what the server's encoders make of it, per slot.

    The tokens are as the device's own encoders would have them: pass them through the heads and receivers as
    over a perfect channel.
    """
    clips = ladders[next(iter(SLOTS))].clips
    decoded = arrivals(code, plan.words, channel, channel_uses, clips, seed)
    received = {}
    for slot in SLOTS:
        ladder, word = ladders[slot], plan.words[slot]
        step_N = ladder.best(word.bits) if word else np.full(clips, -1)
        arrived_N = decoded[slot] & (step_N >= 0)
        features = np.zeros((clips, *ladder.features[0].shape[1:]), np.float32)
        for step in np.unique(step_N[arrived_N]):
            rows = arrived_N & (step_N == step)
            features[rows] = ladder.features[step][rows]
        received[slot] = ReceivedMedia(features, arrived_N, step_N)
    return received


def _offers(code: Code, channel: ChannelConfig, channel_uses: int, ladder: Ladder) -> list[Codeword | None]:
    """Codewords that hold at least one clip; nothing, where there are none."""
    if channel_uses:
        words = code.codewords(channel_uses, channel)
        smallest = int(ladder.bits_SN.min())
        fitting = [word for word in words if word.bits >= smallest]
        if fitting:
            return list(fitting)
    return [None]


def _outcomes(
    code: Code, word: Codeword | None, channel: ChannelConfig, ladder: Ladder
) -> tuple[npt.NDArray[np.int64], float]:
    """Step of each clip, [N], and the probability that its codeword arrives."""
    if word is None:
        return np.full(ladder.clips, -1), 0.0
    return ladder.best(word.bits), 1.0 - mean_loss(code, word, channel)


def _cases(step: int, arrives: float) -> list[tuple[int | None, float]]:
    if step < 0 or arrives <= 0.0:
        return [(None, 1.0)]
    if arrives >= 1.0:
        return [(step, 1.0)]
    return [(step, arrives), (None, 1.0 - arrives)]
