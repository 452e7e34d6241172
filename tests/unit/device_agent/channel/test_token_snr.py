"""The SNR of each token by closed forms: two taps, error variances, pilots; numpy and torch alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from device_agent.channel import Channel, ChannelConfig, Tdl, power, to_symbols, token_snr
from device_agent.channel import link as channel_link
from device_agent.channel.ofdm import Grid, blur, interpolate
from device_agent.channel.sampling import sample_noise
from device_agent.errors import ConfigurationError
from edge_server.training.radio import transmit
from protos.names import MAX_SNR_DB
from tests.closed_forms import gaussian

SNR_DB = 7.0
SPREAD_NS = 1000.0


@dataclass(frozen=True)
class TwoTaps(Tdl):
    """Two paths of one wave each, the second half as strong, that stand still: a channel that is known."""

    name: ClassVar[str] = "two_taps"
    label: ClassVar[str] = "Two taps"
    taps: ClassVar[tuple[tuple[float, float], ...]] = ((0.0, 0.0), (2.0, 0.0))

    def taps_over_time(self, draws: Any, codewords: Any, times_s: Any) -> Any:
        still = np.broadcast_to(np.array([1.0, 0.5]) / 1.25**0.5, (len(times_s), 2))
        return draws.constant(still) + 0j


@pytest.fixture
def over_two_taps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delay lines are these two taps."""
    made = TwoTaps(delay_spread_ns=SPREAD_NS)
    monkeypatch.setattr(channel_link, "channel_model", lambda name, config: made)


def known_gamma(tokens: int) -> np.ndarray:
    """|h(k)|^2 Es/N0 over two taps, in the order in which symbols take subcarriers, [T, 16]."""
    k = np.arange(tokens * 16) % 66
    phase = np.exp(-2j * np.pi * k * 15e3 * 2.0 * SPREAD_NS * 1e-9)
    gamma: np.ndarray = np.abs(1.0 + 0.5 * phase) ** 2 / 1.25 * 10.0 ** (SNR_DB / 10.0)
    return gamma.reshape(tokens, 16)


@pytest.mark.parametrize("equalizer", ["mmse", "zf"])
@pytest.mark.usefixtures("over_two_taps")
def test_over_two_taps_each_subcarrier_has_its_gain_and_a_token_their_mean_error(equalizer: Any) -> None:
    """MMSE leaves 1 / (1 + |h|^2 Es/N0) of a subcarrier: undone of its shrinking, |h|^2 Es/N0 is its SNR."""
    config = ChannelConfig(model="tdl_c", snr_db=SNR_DB, equalizer=equalizer, snr_per="token")
    rng, receptions, errors = np.random.default_rng(1), [], []
    for _ in range(600):
        x_TC = gaussian(rng, 5, 32)
        receptions.append(Channel(config, rng).transmit(x_TC))
        errors.append(np.abs(to_symbols(receptions[-1].x_TC) - to_symbols(x_TC)) ** 2)
    gamma_TS, rest = known_gamma(5), 1.0 if equalizer == "mmse" else 0.0
    error_TS = np.mean(errors, axis=0)
    assert 1.0 / error_TS - rest == pytest.approx(gamma_TS, rel=0.25)
    told = receptions[0].token_snr_db_T
    assert told is not None
    expected = 1.0 / (1.0 / (gamma_TS + rest)).mean(axis=1) - rest
    assert 10.0 ** (told / 10.0) == pytest.approx(expected, rel=1e-4)
    # What is told is the error that is left of that token.
    assert error_TS.mean(axis=1) == pytest.approx(1.0 / (expected + rest), rel=0.1)
    assert receptions[0].effective_snr_db == pytest.approx(10.0 * np.log10(gamma_TS.mean()), abs=1e-4)
    assert float(np.ptp(told)) > 2.0, "tokens differ over this channel"


def test_tokens_whose_symbols_are_alike_have_their_snr() -> None:
    gamma_T = np.array([1e-3, 1.0, 1e4])
    for zero_forcing in (False, True):
        found = token_snr(np.repeat(gamma_T[:, None], 4, axis=1), zero_forcing=zero_forcing)
        assert found == pytest.approx(gamma_T)
    # One symbol of two is lost: half of the power is in error, which is what an SNR of 0 dB leaves.
    assert token_snr(np.array([1e-12, 1e12])) == pytest.approx(1.0)
    assert token_snr(np.array([1e-12, 1e12]), zero_forcing=True) == pytest.approx(2e-12)


def test_numpy_and_torch_tell_the_same_of_the_same_gains() -> None:
    gamma_BTS = np.random.default_rng(2).exponential(3.0, (7, 5, 16))
    found = token_snr(torch.from_numpy(gamma_BTS)).numpy()
    assert found == pytest.approx(token_snr(gamma_BTS), rel=1e-12)


@pytest.mark.parametrize(("model", "fading"), [("tdl_c", "block"), ("rayleigh", "fast")])
def test_device_and_trainer_tell_alike(model: Any, fading: Any) -> None:
    """In distribution; and the mean error of what arrived is what was told."""
    rng, generator = np.random.default_rng(3), torch.Generator().manual_seed(3)
    rows = 400
    sent = torch.randn(rows, 8, 32, generator=generator) * 0.5**0.5
    config = ChannelConfig(model=model, fading=fading, snr_db=5.0, snr_per="token")
    channel = Channel(config, rng)
    told = np.stack([channel.transmit(x.numpy()).told_db() for x in sent])
    snr_db_B = torch.full((rows,), 5.0)
    received, told_BT = transmit(sent, model, fading, snr_db_B, generator, snr_per="token")
    assert told_BT.shape == (rows, 8)
    for quantile in (0.1, 0.5, 0.9):
        theirs = float(torch.quantile(told_BT.flatten(), quantile))
        assert float(np.quantile(told, quantile)) == pytest.approx(theirs, abs=0.6)
    error = float((received - sent).square().mean() * 2.0)
    assert error == pytest.approx(float((1.0 / (1.0 + 10.0 ** (told_BT / 10.0))).mean()), rel=0.05)
    assert transmit(sent, model, fading, snr_db_B, generator)[1].shape == (rows,)


@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 15.0])
def test_what_pilots_tell_of_each_token_is_unbiased(snr_db: float) -> None:
    """In the mean it is that of the link, though every estimate is noisy."""
    rng = np.random.default_rng(4)
    config = ChannelConfig(model="tdl_c", csi="estimated", snr_db=snr_db, snr_per="token")
    means = []
    for each in (config, replace(config, csi="perfect")):
        channel = Channel(each, np.random.default_rng(4))
        told_db = np.stack([channel.transmit(gaussian(rng, 4, 32)).told_db() for _ in range(500)])
        means.append(np.mean(10.0 ** (told_db / 10.0)))
    assert 10.0 * np.log10(means[0] / means[1]) == pytest.approx(0.0, abs=0.8)


@pytest.mark.parametrize(("subcarriers", "spacing"), [(66, 6), (2, 6), (12, 4)])
def test_so_much_of_the_pilots_noise_is_left_between_them(subcarriers: int, spacing: int) -> None:
    rng = np.random.default_rng(5)
    grid = Grid(subcarriers, 15e3, spacing)
    place_D, place_Q = grid.places(40)
    noise = [interpolate(sample_noise((len(place_Q),), rng), place_Q, place_D, grid) for _ in range(3000)]
    left_D = blur(place_Q, place_D, grid)
    assert np.mean(power(np.stack(noise)), axis=0) == pytest.approx(left_D, rel=0.15)
    assert left_D.min() >= 0.5
    assert left_D.max() <= 1.0


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (ChannelConfig(model="tdl_c"), "nobody asked"),
        (ChannelConfig(model="awgn", snr_per="token"), "tokens are alike"),
        (ChannelConfig(model="rayleigh", snr_per="token", csi="estimated"), "tokens are alike"),
        (ChannelConfig(model="none", snr_per="token"), "no channel"),
    ],
)
def test_where_it_would_say_nothing_more_the_blocks_is_told(config: ChannelConfig, why: str) -> None:
    rng = np.random.default_rng(6)
    received = Channel(config, rng).transmit(gaussian(rng, 4, 32))
    assert received.token_snr_db_T is None, why
    assert received.told_db() == pytest.approx(np.full(4, received.effective_snr_db))


def test_telling_more_changes_nothing_of_what_arrives_and_costs_no_airtime() -> None:
    x_TC = gaussian(np.random.default_rng(7), 4, 32)
    config = ChannelConfig(model="tdl_a", csi="estimated")
    per_block, per_token = (
        Channel(each, np.random.default_rng(8)).transmit(x_TC)
        for each in (config, replace(config, snr_per="token"))
    )
    np.testing.assert_array_equal(per_block.x_TC, per_token.x_TC)
    assert per_block.effective_snr_db == per_token.effective_snr_db
    assert per_block.channel_uses == per_token.channel_uses


def test_without_a_channel_the_trainer_tells_the_bound() -> None:
    sent = torch.zeros(2, 3, 4)
    told = transmit(sent, "none", "block", torch.zeros(2), torch.Generator(), snr_per="token")[1]
    assert told.tolist() == [MAX_SNR_DB] * 2


def test_a_way_of_telling_that_is_none_is_named() -> None:
    with pytest.raises(ConfigurationError, match="snr_per is 'symbol'; allowed: block, token"):
        ChannelConfig(snr_per="symbol")  # type: ignore[arg-type]
