"""The trainer's channel is the device's channel, and closed forms hold for both."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from device_agent.channel import Channel, ChannelConfig
from device_agent.errors import ConfigurationError
from edge_server.training.radio import RadioTraining, transmit
from protos.names import MAX_SNR_DB


def gaussian(codewords: int, generator: torch.Generator) -> Tensor:
    return torch.randn(codewords, 16, 32, generator=generator) * 0.5**0.5


@pytest.mark.parametrize(("snr_db", "expected"), [(0.0, 0.5), (10.0, 1 / 11), (20.0, 1 / 101)])
def test_gaussian_mmse_over_awgn(snr_db: float, expected: float) -> None:
    generator = torch.Generator().manual_seed(0)
    sent = gaussian(400, generator)
    received, told = transmit(sent, "awgn", "block", torch.full((400,), snr_db), generator)
    error = (received - sent).square() / 0.5
    deviation = float(error.std()) / math.sqrt(error.numel())
    assert float(error.mean()) == pytest.approx(expected, abs=4 * deviation)
    torch.testing.assert_close(told, torch.full((400,), snr_db), atol=1e-4, rtol=0)


@pytest.mark.parametrize("fading", ["block", "fast"])
def test_rayleigh_tells_the_receiver_its_gain(fading: str) -> None:
    generator = torch.Generator().manual_seed(1)
    rows = 4000
    _, told = transmit(gaussian(rows, generator), "rayleigh", fading, torch.zeros(rows), generator)  # type: ignore[arg-type]
    gain = 10 ** (told / 10)
    per_row = 1 if fading == "block" else 16 * 16
    assert float(gain.mean()) == pytest.approx(1.0, abs=4 / math.sqrt(rows * per_row))
    assert float(gain.var()) == pytest.approx(1.0 / per_row, rel=0.3)


def test_device_and_trainer_agree_in_distribution() -> None:
    rng = np.random.default_rng(2)
    generator = torch.Generator().manual_seed(2)
    sent = gaussian(300, generator)
    channel = Channel(ChannelConfig(model="rayleigh", snr_db=5.0), rng)
    device = np.stack([channel.transmit(x.numpy()).x_TC for x in sent])
    trainer, _ = transmit(sent, "rayleigh", "block", torch.full((300,), 5.0), generator)
    errors = [float(np.mean((x - sent.numpy()) ** 2)) for x in (device, trainer.numpy())]
    assert errors[0] == pytest.approx(errors[1], rel=0.15)


@pytest.mark.parametrize("snr_db", [0.0, 10.0])
def test_device_and_trainer_estimate_gains_alike(snr_db: float) -> None:
    rng, generator = np.random.default_rng(3), torch.Generator().manual_seed(3)
    sent = gaussian(500, generator)
    channel = Channel(ChannelConfig(model="rayleigh", snr_db=snr_db, csi="estimated", pilots=4), rng)
    heard = [channel.transmit(x.numpy()) for x in sent]
    received, told = transmit(sent, "rayleigh", "block", torch.full((500,), snr_db), generator, pilots=4)
    device = np.stack([each.x_TC for each in heard])
    errors = [float(np.mean((x - sent.numpy()) ** 2)) for x in (device, received.numpy())]
    assert errors[0] == pytest.approx(errors[1], rel=0.15)
    gains = [10 ** (np.asarray(x) / 10) for x in ([e.effective_snr_db for e in heard], told)]
    assert float(gains[0].mean()) == pytest.approx(float(gains[1].mean()), rel=0.2)


def test_without_a_channel_nothing_changes() -> None:
    sent = gaussian(2, torch.Generator().manual_seed(0))
    received, told = transmit(sent, "none", "block", torch.zeros(2), torch.Generator())
    assert torch.equal(received, sent)
    assert told.tolist() == [MAX_SNR_DB] * 2


def test_gradients_pass_through_the_channel() -> None:
    generator = torch.Generator().manual_seed(0)
    sent = gaussian(2, generator).requires_grad_()
    received, _ = transmit(sent, "rayleigh", "fast", torch.zeros(2), generator)
    received.square().sum().backward()
    assert sent.grad is not None
    assert float(sent.grad.abs().min()) > 0


def test_an_unknown_channel_is_named() -> None:
    with pytest.raises(ConfigurationError, match="'wifi'; allowed: none, awgn"):
        transmit(torch.zeros(1, 1, 2), "wifi", "block", torch.zeros(1), torch.Generator())


def test_training_draws_from_its_bounds_and_odds() -> None:
    radio = RadioTraining()
    generator = torch.Generator().manual_seed(0)
    draws = [radio.draw(4, generator) for _ in range(2000)]
    snr_db = torch.cat([snr for _, _, snr in draws])
    assert radio.snr_db[0] <= float(snr_db.min()) < radio.snr_db[0] + 0.1
    assert radio.snr_db[1] - 0.1 < float(snr_db.max()) <= radio.snr_db[1]
    for model, fading, odds in radio.odds:
        share = sum((m, f) == (model, fading) for m, f, _ in draws) / len(draws)
        assert share == pytest.approx(odds, abs=4 * math.sqrt(odds * (1 - odds) / len(draws)))
