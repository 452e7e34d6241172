"""What spoils a link besides noise, by closed forms: neighbours, a saturating amplifier, old estimates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import j0

from device_agent.channel import Channel, ChannelConfig, Tdl, channel_model, power, to_symbols
from device_agent.channel.amplifier import clip, peak_to_average_db, scrambled
from device_agent.channel.sampling import sample_noise
from device_agent.channel.selective import cross
from device_agent.errors import ConfigurationError
from protos.names import ChannelName, CsiName
from tests.closed_forms import (
    EBN0_TO_SNR_DB,
    awgn_bit_error_rate,
    bit_errors_per_symbol,
    gaussian,
    mean_and_standard_error,
    qpsk,
)

MODELS: list[ChannelName] = ["awgn", "rayleigh", "tdl_c"]


def tdl_c(speed_kmh: float = 60.0) -> Tdl:
    model = channel_model("tdl_c", ChannelConfig(speed_kmh=speed_kmh))
    assert isinstance(model, Tdl)
    return model


def test_a_neighbour_is_as_bad_as_that_much_noise() -> None:
    """QPSK among Gaussian symbols: its bit error rate is that of noise and interference together."""
    rng = np.random.default_rng(1)
    x = qpsk(rng, 1000, 2000)
    received = Channel(ChannelConfig(model="awgn", snr_db=10.0, sir_db=4.0), rng).transmit(x)
    sinr_db = -10.0 * math.log10(10.0**-1.0 + 10.0**-0.4)
    mean, error = mean_and_standard_error(bit_errors_per_symbol(x, received.x_TC))
    assert mean == pytest.approx(awgn_bit_error_rate(sinr_db - EBN0_TO_SNR_DB), abs=4.0 * error)
    assert received.effective_snr_db == pytest.approx(sinr_db, abs=1e-6)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("csi", ["perfect", "estimated"])
def test_the_receiver_is_told_of_interference(model: ChannelName, csi: CsiName) -> None:
    """Told in the mean: what arrives of us over noise and what arrives of the neighbour."""
    rng = np.random.default_rng(2)
    told = []
    for sir_db in (None, 0.0, -10.0):
        channel = Channel(ChannelConfig(model=model, csi=csi, snr_db=20.0, sir_db=sir_db), rng)
        told.append(np.mean([channel.transmit(gaussian(rng, 16, 32)).effective_snr_db for _ in range(200)]))
    assert told[0] > told[1] + 10.0 > told[2] + 15.0


def test_a_neighbour_in_the_same_fade_is_worse_than_one_in_its_own_on_average() -> None:
    """Its fades are its own: there are codewords that hear hardly anything of it."""
    rng = np.random.default_rng(3)
    channel = Channel(ChannelConfig(model="rayleigh", snr_db=30.0, sir_db=0.0), rng)
    told = np.array([channel.transmit(gaussian(rng, 2, 4)).effective_snr_db for _ in range(4000)])
    # Two exponentials over one another: P(ours / theirs < 1) = 1/2, up to the noise 30 dB below.
    assert (told < 0.0).mean() == pytest.approx(0.5, abs=0.035)
    assert (told < -10.0).mean() == pytest.approx(1.0 / 11.0, abs=0.02)


@pytest.mark.parametrize("clip_db", [-3.0, 0.0, 3.0, 6.0])
def test_a_limiter_leaves_of_gaussian_signals_what_bussgang_says(clip_db: float) -> None:
    """Of A over the root of the mean power, g: 1 - e^(-g^2) + sqrt(pi)/2 g erfc(g) of the amplitude."""
    rng = np.random.default_rng(4)
    # Scrambled they are as peaked, even where all subcarriers are alike.
    alike_db = peak_to_average_db(scrambled(np.ones((200, 66), np.complex64)))
    assert np.median(alike_db) < 10.0 < float(peak_to_average_db(np.ones((1, 66), np.complex64))[0])
    grid_NK = sample_noise((400, 66), rng)
    left_NK = clip(grid_NK, clip_db)
    ratio = 10.0 ** (clip_db / 20.0)
    expected = 1.0 - math.exp(-(ratio**2)) + 0.5 * math.sqrt(math.pi) * ratio * math.erfc(ratio)
    found = (left_NK * grid_NK.conj()).mean() / power(grid_NK).mean()
    assert found.real == pytest.approx(expected, abs=0.005)
    assert found.imag == pytest.approx(0.0, abs=0.005)


def test_peaks_are_as_high_as_level_crossings_say() -> None:
    """P(PAPR > x) = 1 - exp(-K sqrt(pi x / 3) e^(-x)) of K subcarriers (Ochiai and Imai, 2001)."""
    rng = np.random.default_rng(5)
    papr_db = peak_to_average_db(to_symbols(qpsk(rng, 4000, 132)))
    for threshold_db in (7.0, 8.0, 9.0):
        level = 10.0 ** (threshold_db / 10.0)
        expected = 1.0 - math.exp(-66.0 * math.sqrt(math.pi * level / 3.0) * math.exp(-level))
        assert (papr_db > threshold_db).mean() == pytest.approx(expected, abs=0.05)
    assert peak_to_average_db(np.eye(1, 66, dtype=np.complex64)) == pytest.approx([0.0], abs=1e-6)


def test_an_amplifier_with_room_changes_nothing_and_one_without_blurs() -> None:
    rng = np.random.default_rng(6)
    x_TC = gaussian(rng, 16, 32)
    errors = []
    for clip_db in (None, 20.0, 0.0):
        config = ChannelConfig(model="tdl_c", snr_db=40.0, clip_db=clip_db)
        found = Channel(config, np.random.default_rng(7)).transmit(x_TC)
        errors.append(float(np.mean((found.x_TC - x_TC) ** 2)))
    assert errors[1] == pytest.approx(errors[0], rel=1e-3)
    assert errors[2] > 10.0 * errors[0]


@pytest.mark.parametrize("age_ms", [0.0, 1.0, 2.5])
def test_what_is_known_has_aged_as_bessel_says(age_ms: float) -> None:
    """E h(t) h*(t - age) = J0(2 pi f_D age)."""
    rng = np.random.default_rng(8)
    model = tdl_c()
    s_TS = sample_noise((16, 16), rng)
    products = []
    for _ in range(1500):
        crossed = cross(model, s_TS, 1e-3, 1.0, rng, csi_age_s=age_ms * 1e-3)
        products.append((crossed.true_TS * crossed.h_TS.conj()).mean())
    expected = j0(2.0 * math.pi * model.doppler_hz * age_ms * 1e-3)
    assert np.mean(products).real == pytest.approx(expected, abs=0.06)


def test_old_estimates_cost_more_the_faster_one_moves() -> None:
    errors = []
    for speed_kmh in (0.0, 3.0, 60.0):
        config = ChannelConfig(
            model="tdl_c", csi="estimated", snr_db=30.0, speed_kmh=speed_kmh, csi_age_ms=2.0
        )
        rng = np.random.default_rng(9)
        found = []
        for _ in range(60):
            x_TC = gaussian(rng, 16, 32)
            found.append(np.mean((Channel(config, rng).transmit(x_TC).x_TC - x_TC) ** 2))
        errors.append(float(np.mean(found)))
    assert errors[0] < errors[1] < errors[2] / 3.0


@pytest.mark.parametrize(
    "change", [{"csi_age_ms": -1.0}, {"clip_db": math.nan}, {"sir_db": math.inf}, {"sir_db": 1e6}]
)
def test_what_cannot_be_is_named(change: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(change))):
        ChannelConfig(**change)  # type: ignore[arg-type]
