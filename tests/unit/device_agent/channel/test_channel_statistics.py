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
    equalize_mmse,
    equalize_zf,
    estimate_gain,
    n0_from_snr_db,
    power,
    sample_gain,
    sample_noise,
    to_symbols,
)
from device_agent.channel.sampling import ChannelName, FadingName
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
    assert_mean(power(sample_gain(model, fading, shape, rng)), 1.0)


def test_rayleigh_power_is_exponential() -> None:
    gains = power(sample_gain("rayleigh", "fast", (400, 500), np.random.default_rng(7)))
    for level in (0.1, 1.0, 3.0):
        assert_mean(gains > level, math.exp(-level))


@pytest.mark.parametrize("k_factor_db", [0.0, 6.0, 12.0])
def test_rician_power_varies_as_its_k_factor_says(k_factor_db: float) -> None:
    gains = power(sample_gain("rician", "block", (200_000, 1, 1), np.random.default_rng(8), k_factor_db))
    k = 10.0 ** (k_factor_db / 10.0)
    assert_mean((gains.astype(np.float64) - 1.0) ** 2, (1.0 + 2.0 * k) / (1.0 + k) ** 2)


@pytest.mark.parametrize("model", ["rayleigh", "rician"])
def test_block_fading_is_constant_within_a_codeword_and_new_in_the_next(model: ChannelName) -> None:
    rng = np.random.default_rng(9)
    assert sample_gain(model, "block", (5, 16, 32), rng).shape == (5, 1, 1)
    gains = sample_gain(model, "block", (2000, 16, 32), rng).ravel()
    assert len(np.unique(gains)) == 2000
    fast = sample_gain(model, "fast", (16, 32), rng)
    assert len(np.unique(fast)) == 16 * 32


def test_pilot_estimates_are_unbiased_with_error_n0_over_pilots() -> None:
    rng = np.random.default_rng(10)
    h = sample_gain("rayleigh", "fast", (300, 300), rng)
    error = estimate_gain(h, 0.2, 4, rng) - h
    assert_mean(error.real, 0.0)
    assert_mean(error.imag, 0.0)
    assert_mean(power(error), 0.2 / 4)


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
    h = sample_gain("rayleigh", "block", (3, 4, 4), rng)
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
