"""What both digital baselines share: how a question's channel uses are divided, and which codewords arrive.

The baseline is free to divide them: half each, or all to one modality.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device_agent.channel import ChannelConfig, channel_model, power, sample_gain, sample_noise
from edge_server.model.modality import SLOTS
from edge_server.study.digital.codes import Code, Codeword

SHARES: tuple[Mapping[str, float], ...] = (
    {"visual": 0.5, "audio": 0.5},
    {"visual": 1.0, "audio": 0.0},
    {"visual": 0.0, "audio": 1.0},
)
"""Ways to divide the channel uses of a question."""

Choice = dict[str, Codeword | None]
"""A codeword for each slot; None where nothing is sent."""


@dataclass(frozen=True)
class Plan:
    """What is sent for every clip, as link adaptation chose for a channel."""

    words: Choice
    """Codeword of each slot."""
    expected: float
    """Accuracy that the choice was made for."""

    def to_json(self) -> dict[str, object]:
        """For a report."""
        return {
            "expected_accuracy": self.expected,
            **{
                slot: word and {"code": word.name, "channel_uses": word.channel_uses, "bits": word.bits}
                for slot, word in self.words.items()
            },
        }


def divisions(channel_uses: int) -> Iterator[dict[str, int]]:
    """Channel uses of each slot, one way after the other."""
    for share in SHARES:
        yield {slot: int(channel_uses * share[slot]) for slot in SLOTS}


def meet(
    channel: ChannelConfig, channel_uses: int, clip: int, seed: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """What one clip's codewords meet on the channel.

    Drawn from ``default_rng([seed, clip])`` in the order of :class:`device_agent.channel.Channel` sending a
    token block of half the channel uses per slot: under block fading both of a clip's codewords meet the
    gains that its tokens meet.

    Returns:
        Per slot, the SNR of the codeword [dB] (under fast fading and without, the mean), and a uniform draw
        within [0, 1) that decides whether it is lost, whatever the code.
    """
    rng = np.random.default_rng([seed, clip])
    shape = (1, channel_uses // len(SLOTS))
    snr_db = np.full(len(SLOTS), float(channel.snr_db))
    model = channel_model(channel.model, channel)
    for row in range(len(SLOTS)):
        h = sample_gain(model, channel.fading, shape, rng)
        if channel.fading == "block":
            snr_db[row] += 10 * np.log10(max(float(power(h).mean()), 1e-30))
        sample_noise(shape, rng)
    return snr_db, rng.random(len(SLOTS))


def arrivals(
    code: Code, words: Choice, channel: ChannelConfig, channel_uses: int, clips: int, seed: int
) -> dict[str, npt.NDArray[np.bool_]]:
    """Which clips' codewords are decoded, per slot, [N].

    Args:
        code: how codewords are lost.
        words: what is sent.
        channel: its model, fading and mean SNR.
        channel_uses: of a question, all modalities together.
        clips: N.
        seed: of the channel realisations, see :func:`meet`.
    """
    met = [meet(channel, channel_uses, clip, seed) for clip in range(clips)]
    snr_db_NS, draw_NS = (np.stack(column) for column in zip(*met, strict=True))
    arrived = {}
    for row, slot in enumerate(SLOTS):
        word = words[slot]
        if word is None:
            arrived[slot] = np.zeros(clips, np.bool_)
        else:
            arrived[slot] = draw_NS[:, row] >= code.loss(word, channel, snr_db_NS[:, row])
    return arrived
