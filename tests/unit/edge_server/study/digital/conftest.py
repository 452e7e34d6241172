"""A code that is lost as told, and ladders that hold what they are called."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pytest

from device_agent.channel import ChannelConfig
from edge_server.study.digital.codes import Codeword
from edge_server.study.digital.ladder import Ladder

CLIPS = 400


class ToldCode:
    """Bits per channel use against the probability of losing them, at any SNR."""

    def __init__(self, losses: Mapping[float, float]) -> None:
        self.losses = losses

    def codewords(self, channel_uses: int, channel: ChannelConfig) -> tuple[Codeword, ...]:
        return tuple(Codeword(str(rate), channel_uses, int(rate * channel_uses)) for rate in self.losses)

    def loss(self, word: Codeword, channel: ChannelConfig, snr_db: npt.ArrayLike) -> npt.NDArray[np.float64]:
        return np.full(np.shape(snr_db), self.losses[float(word.name)])


def ladder(slot: str, bits: list[int]) -> Ladder:
    """Steps of so many bits (one more for odd clips), whose tokens hold the step's number plus one."""
    odd = np.arange(CLIPS) % 2
    return Ladder(
        slot=slot,
        names=tuple(str(size) for size in bits),
        bits_SN=np.array(bits, np.int64)[:, None] + odd,
        features=tuple(np.full((CLIPS, 3, 2), step + 1, np.float16) for step in range(len(bits))),
        worth_S=np.arange(len(bits), dtype=np.float64),
    )


@pytest.fixture
def ladders() -> dict[str, Ladder]:
    return {"visual": ladder("visual", [50, 100, 200]), "audio": ladder("audio", [400, 800])}


@pytest.fixture
def awgn() -> ChannelConfig:
    return ChannelConfig(model="awgn", snr_db=0.0)
