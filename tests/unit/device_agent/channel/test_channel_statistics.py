"""The channel against closed forms: each measured figure within four standard errors of what theory says."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from device_agent.channel import (
    Channel,
    ChannelConfig,
    apply,
    channel_model,
    equalize_mmse,
    equalize_zf,
    estimate_gain,
    n0_from_snr_db,
    power,
    sample_gain,
    sample_noise,
    to_symbols,
)
from device_agent.channel.csi import _mean_cosine, expected_power
from device_agent.channel.models import Rician
from protos.names import ChannelName, CsiName, FadingName
from tests.closed_forms import (
    EBN0_TO_SNR_DB,
    awgn_bit_error_rate,
    bit_errors_per_symbol,
    gaussian,
    gaussian_error,
    mean_and_standard_error,
    qpsk,
    rayleigh_bit_error_rate,
)

SIGMAS = 4.0


def assert_mean(values: npt.ArrayLike, expected: float) -> None:
    """The mean of independent values lies within four of its own standard errors of what is expected."""
    mean, standard_error = mean_and_standard_error(values)
    assert abs(mean - expected) <= SIGMAS * standard_error, f"{mean} ± {standard_error}, not {expected}"


@pytest.mark.parametrize(("ebn0_db", "stated"), [(0.0, 0.07865), (4.0, 0.01250), (8.0, 1.909e-4)])
def test_gray_qpsk_bit_error_rate_in_awgn(ebn0_db: float, stated: float) -> None:
    expected = awgn_bit_error_rate(ebn0_db)
    assert expected == pytest.approx(stated, rel=1e-3)
    rng = np.random.default_rng(1)
    x = qpsk(rng, 1000, 2000)
    received = Channel(ChannelConfig(model="awgn", snr_db=ebn0_db + EBN0_TO_SNR_DB), rng).transmit(x)
    assert_mean(bit_errors_per_symbol(x, received.x_TC), expected)


@pytest.mark.parametrize("equalizer", ["mmse", "zf"])
@pytest.mark.parametrize(("ebn0_db", "stated"), [(0.0, 0.1464), (4.0, 0.0771), (8.0, 0.0355)])
def test_gray_qpsk_bit_error_rate_in_fast_rayleigh_fading(
    ebn0_db: float, stated: float, equalizer: str
) -> None:
    expected = rayleigh_bit_error_rate(ebn0_db)
    assert expected == pytest.approx(stated, abs=6e-5)
    rng = np.random.default_rng(2)
    x = qpsk(rng, 500, 1000)
    config = ChannelConfig(
        model="rayleigh", fading="fast", snr_db=ebn0_db + EBN0_TO_SNR_DB, equalizer=equalizer
    )
    received = Channel(config, rng).transmit(x)
    assert_mean(bit_errors_per_symbol(x, received.x_TC), expected)


@pytest.mark.parametrize(("ebn0_db", "stated"), [(0.0, 0.1464), (4.0, 0.0771), (8.0, 0.0355)])
def test_gray_qpsk_bit_error_rate_in_block_rayleigh_fading(ebn0_db: float, stated: float) -> None:
    rng = np.random.default_rng(3)
    expected = rayleigh_bit_error_rate(ebn0_db)
    channel = Channel(ChannelConfig(model="rayleigh", snr_db=ebn0_db + EBN0_TO_SNR_DB), rng)
    x = qpsk(rng, 1, 32)
    # Symbols of one codeword share a gain: only codewords are independent.
    per_codeword = [bit_errors_per_symbol(x, channel.transmit(x).x_TC).mean() for _ in range(6000)]
    assert_mean(per_codeword, expected)
    assert expected == pytest.approx(stated, abs=6e-5)


@pytest.mark.parametrize(("snr_db", "stated"), [(0.0, 0.5), (10.0, 0.0909), (20.0, 0.0099)])
def test_matched_bandwidth_gaussian_error_is_one_over_one_plus_snr(snr_db: float, stated: float) -> None:
    expected = gaussian_error(snr_db)
    assert expected == pytest.approx(stated, abs=6e-5)
    rng = np.random.default_rng(4)
    x = gaussian(rng, 500, 1000)
    received = Channel(ChannelConfig(snr_db=snr_db), rng).transmit(x)
    assert_mean((received.x_TC.astype(np.float64) - x) ** 2 / 0.5, expected)


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 13.0])
def test_noise_has_half_of_n0_in_each_dimension_whatever_is_sent(snr_db: float) -> None:
    rng = np.random.default_rng(5)
    n0 = 10.0 ** (-snr_db / 10.0)
    assert n0_from_snr_db(snr_db) == pytest.approx(n0)
    config = ChannelConfig(snr_db=snr_db, equalizer="zf")  # with h = 1, zero-forcing leaves y as it is
    for amplitude in (0.0, 5.0):  # noise must not follow the power that was sent
        x = np.full((250, 1000), amplitude, np.float32)
        noise = Channel(config, rng).transmit(x).x_TC.astype(np.float64) - x
        for dimension in (noise[:, :500], noise[:, 500:]):
            assert_mean(dimension, 0.0)
            assert_mean(dimension**2, n0 / 2.0)
        assert_mean(noise[:, :500] * noise[:, 500:], 0.0)


@pytest.mark.parametrize("fading", ["block", "fast"])
@pytest.mark.parametrize("model", ["rayleigh", "rician"])
def test_mean_gain_power_is_one(model: ChannelName, fading: FadingName) -> None:
    rng = np.random.default_rng(6)
    shape = (200_000, 1, 1) if fading == "block" else (1, 400, 500)
    assert_mean(power(sample_gain(channel_model(model), fading, shape, rng)), 1.0)


def test_rayleigh_power_is_exponential() -> None:
    gains = power(sample_gain(channel_model("rayleigh"), "fast", (400, 500), np.random.default_rng(7)))
    for level in (0.1, 1.0, 3.0):
        assert_mean(gains > level, math.exp(-level))


@pytest.mark.parametrize("k_factor_db", [0.0, 6.0, 12.0])
def test_rician_power_varies_as_its_k_factor_says(k_factor_db: float) -> None:
    gains = power(sample_gain(Rician(k_factor_db), "block", (200_000, 1, 1), np.random.default_rng(8)))
    k = 10.0 ** (k_factor_db / 10.0)
    assert_mean((gains.astype(np.float64) - 1.0) ** 2, (1.0 + 2.0 * k) / (1.0 + k) ** 2)


@pytest.mark.parametrize("model", ["rayleigh", "rician"])
def test_block_fading_is_constant_within_a_codeword_and_new_in_the_next(model: ChannelName) -> None:
    rng = np.random.default_rng(9)
    assert sample_gain(channel_model(model), "block", (5, 16, 32), rng).shape == (5, 1, 1)
    gains = sample_gain(channel_model(model), "block", (2000, 16, 32), rng).ravel()
    assert len(np.unique(gains)) == 2000
    fast = sample_gain(channel_model(model), "fast", (16, 32), rng)
    assert len(np.unique(fast)) == 16 * 32


def test_pilot_estimates_are_unbiased_with_error_n0_over_pilots() -> None:
    rng = np.random.default_rng(10)
    h = sample_gain(channel_model("rayleigh"), "fast", (300, 300), rng)
    error = estimate_gain(h, 0.2, 4, rng) - h
    assert_mean(error.real, 0.0)
    assert_mean(error.imag, 0.0)
    assert_mean(power(error), 0.2 / 4)


@pytest.mark.parametrize("n0", [0.01, 1.0, 300.0])
@pytest.mark.parametrize(
    ("model", "k_factor_db"), [("awgn", 0.0), ("rician", 0.0), ("rician", 9.0), ("rayleigh", 0.0)]
)
def test_power_that_is_told_of_estimated_gains_is_the_links_own_in_the_mean(
    model: ChannelName, k_factor_db: float, n0: float
) -> None:
    rng = np.random.default_rng(14)
    kind = Rician(k_factor_db) if model == "rician" else channel_model(model)
    h = sample_gain(kind, "block", (200_000, 1, 1), rng)
    estimate = estimate_gain(h, n0, 4, rng)
    told = expected_power(estimate, n0, 4, *kind.paths())
    error = told - power(h)
    # Not even where the estimate is known: errors of a conditional mean are orthogonal to whatever it is
    # computed from.
    assert_mean(error, 0.0)
    assert_mean(error * np.abs(estimate), 0.0)
    assert told.min() >= 0.0


def test_power_that_is_told_of_a_rayleigh_gain_has_its_closed_form() -> None:
    estimate = np.array([[0.0, 1.0 + 1.0j, 3.0]], np.complex64)
    # Prior CN(0, 1), noise CN(0, 1/2): the gain given the estimate is CN(2/3 estimate, 1/3).
    told = expected_power(estimate, 2.0, 4, *channel_model("rayleigh").paths())
    np.testing.assert_allclose(told, [[1 / 3, 1 / 3 + 8 / 9, 1 / 3 + 4.0]])


@pytest.mark.parametrize("csi", ["perfect", "estimated"])
@pytest.mark.parametrize("snr_db", [10.0, -5.0, -15.0, -25.0])
@pytest.mark.parametrize("model", ["awgn", "rician", "rayleigh"])
def test_snr_that_is_told_follows_the_link_whatever_is_known_of_its_gain(
    model: ChannelName, snr_db: float, csi: CsiName
) -> None:
    x = gaussian(np.random.default_rng(15), 16, 64)
    config = ChannelConfig(model=model, snr_db=snr_db, csi=csi, pilots=1)
    channel = Channel(config, np.random.default_rng(16))
    told_db = np.array([channel.transmit(x).effective_snr_db for _ in range(2000)])
    assert_mean(10.0 ** ((told_db - snr_db) / 10.0), 1.0)


@pytest.mark.parametrize("pilots", [1, 4, 16])
def test_blocks_of_a_link_far_below_the_bound_all_count_as_outages(pilots: int) -> None:
    x = gaussian(np.random.default_rng(17), 16, 64)
    config = ChannelConfig(snr_db=-25.0, csi="estimated", pilots=pilots)
    channel = Channel(config, np.random.default_rng(18))
    assert max(channel.transmit(x).effective_snr_db for _ in range(200)) < -12.0


def test_mean_cosine_is_the_ratio_of_bessel_functions() -> None:
    # I1 and I0 at 1, and at 10 scaled by e^-10: Abramowitz and Stegun, table 9.8.
    ratio = _mean_cosine(np.array([0.0, 1.0, 10.0, 49.999, 50.001]))
    np.testing.assert_allclose(
        ratio[:3], [0.0, 0.5651591 / 1.2660658, 0.1212626814 / 0.1278333372], rtol=1e-6, atol=1e-12
    )
    # No step where one formula follows the other.
    assert ratio[4] - ratio[3] == pytest.approx(0.002 * (1 - ratio[3] / 50.0 - ratio[3] ** 2), abs=1e-7)


def test_more_pilots_mean_less_error_and_perfect_csi_least() -> None:
    rng = np.random.default_rng(11)
    x = gaussian(rng, 300, 600)

    def error(**csi: object) -> float:
        config = ChannelConfig(model="rayleigh", fading="fast", snr_db=5.0, **csi)  # type: ignore[arg-type]
        return float(np.mean((Channel(config, np.random.default_rng(12)).transmit(x).x_TC - x) ** 2))

    assert (
        error(csi="perfect")
        < error(csi="estimated", pilots=16)
        < error(csi="estimated", pilots=4)
        < error(csi="estimated", pilots=1)
    )


def test_same_formulas_serve_torch_and_carry_gradients() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(13)
    x = rng.standard_normal((3, 4, 8)).astype(np.float32)
    h = sample_gain(channel_model("rayleigh"), "block", (3, 4, 4), rng)
    w = sample_noise((3, 4, 4), rng)
    n0 = np.array([0.1, 0.5, 1.0], np.float32).reshape(3, 1, 1)
    y = apply(to_symbols(x), h, w, n0)
    x_torch = torch.tensor(x, requires_grad=True)
    h_torch, w_torch, n0_torch = torch.tensor(h), torch.tensor(w), torch.tensor(n0)
    y_torch = apply(to_symbols(x_torch), h_torch, w_torch, n0_torch)
    assert y_torch.dtype == torch.complex64
    for equalize in (equalize_mmse, lambda y, h, n0: equalize_zf(y, h)):
        expected = equalize(y, h, n0)
        found = equalize(y_torch, h_torch, n0_torch)
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad(equalize_mmse(y_torch, h_torch, n0_torch).real.sum(), x_torch)
    # d Re(s_hat) / d Re(s) = |h|^2 / (|h|^2 + n0), and nothing through the imaginary half.
    gain = power(h) / (power(h) + n0)
    np.testing.assert_allclose(gradient[..., :4].numpy(), np.broadcast_to(gain, (3, 4, 4)), rtol=1e-4)
    np.testing.assert_allclose(gradient[..., 4:].numpy(), 0.0, atol=1e-5)
    snr_db = torch.tensor([0.0, 10.0])
    np.testing.assert_allclose(n0_from_snr_db(snr_db).numpy(), [1.0, 0.1], rtol=1e-6)
