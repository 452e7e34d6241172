"""Analog repetition: one reception at the sum of SNRs is what maximum ratio combining makes of several."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from device_agent.channel import Channel, ChannelConfig
from edge_server.cell.rounds import Segment
from edge_server.study.semantic.analog import Repeats, most_repeats, received
from edge_server.study.semantic.outage import Air

SENT = np.random.default_rng(1).normal(0, 0.5**0.5, (600, 32)).astype(np.float32)


def reception(snr: float, seed: int) -> Segment:
    config = ChannelConfig(model="awgn", snr_db=10 * math.log10(snr))
    got = Channel(config, np.random.default_rng(seed)).transmit(SENT)
    return Segment(got.x_TC, got.effective_snr_db)


def test_receptions_combined_are_one_at_the_sum_of_their_snrs() -> None:
    snrs = (0.5, 0.2, 0.9)
    first, second, third = (reception(snr, seed) for seed, snr in enumerate(snrs))
    combined = first.again(second).again(third)
    met = np.array(snrs)[None, :, None]
    got = received({"visual": torch.from_numpy(SENT[None])}, met, np.array([[3]]), seed=9)
    assert float(got.told_db["visual"][0, 0]) == pytest.approx(combined.snr_db, abs=1e-3)
    # Both leave what MMSE leaves: an error of 1 / (1 + the sum), and as much power less.
    power = float(np.square(SENT).mean())
    for x in (combined.x_TC, got.x["visual"][0].numpy()):
        assert float(np.square(x - SENT).mean()) / power == pytest.approx(1 / (1 + sum(snrs)), rel=0.03)
        assert float(np.square(x).mean()) / power == pytest.approx(sum(snrs) / (1 + sum(snrs)), rel=0.03)


def test_what_is_below_the_threshold_comes_again_each_modality_alone() -> None:
    met = np.array([[[1.0, 0.1], [1.0, 0.1], [1.0, 5.0], [1.0, 1.0]]])
    assert Repeats(4, 0.0).rounds(met).tolist() == [[1, 3]]
    assert Repeats(4, -math.inf).rounds(met).tolist() == [[1, 1]]
    assert Repeats(4, math.inf).rounds(met).tolist() == [[4, 4]]
    assert Repeats(4, 0.0).uses(np.array([[1, 3]]), channel_dim=32) == 4 * 64


def test_the_threshold_spends_what_there_is_and_no_more() -> None:
    met = Air().meet(20_000, seed=1)
    for budget in (150, 256, 400):
        repeats = most_repeats(4, met, budget, 32)
        assert repeats is not None
        assert 0.75 * budget <= repeats.uses(repeats.rounds(met), 32) <= budget
    assert most_repeats(4, met, 127, 32) is None
    always = most_repeats(4, met, 512, 32)
    assert always == Repeats(4, math.inf)
