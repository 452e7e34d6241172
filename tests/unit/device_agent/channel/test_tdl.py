"""Tapped delay lines by their closed forms: delays, powers, Doppler, fading; numpy and torch alike."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from scipy.special import j0

from device_agent.channel import MODELS, Channel, ChannelConfig, Tdl, channel_model, power
from device_agent.channel.ofdm import CYCLIC_PREFIX, Grid, interpolate
from device_agent.channel.sampling import NumpyDraws
from device_agent.errors import ConfigurationError
from edge_server.training.radio import transmit

PROFILES = [name for name, kind in MODELS.items() if kind.selective]


@dataclass(frozen=True)
class OneTap(Tdl):
    """All waves arrive together: what a single tap does over time."""

    name: ClassVar[str] = "one_tap"
    label: ClassVar[str] = "One tap"
    taps: ClassVar[tuple[tuple[float, float], ...]] = ((0.0, 0.0),)


def tdl(name: str = "tdl_c", **changes: Any) -> Tdl:
    model = channel_model(name)
    assert isinstance(model, Tdl)
    return replace(model, **changes)


def draws(seed: int = 1) -> NumpyDraws:
    return NumpyDraws(np.random.default_rng(seed))


def codeword(rng: np.random.Generator, tokens: int = 16) -> np.ndarray:
    return (rng.standard_normal((tokens, 32)) * 0.5**0.5).astype(np.float32)


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_has_the_delay_spread_that_it_is_scaled_to(name: str) -> None:
    """The report's tables are normalised: which catches a mistyped delay or power."""
    model = tdl(name, delay_spread_ns=300.0)
    steady, scattered_P = model.powers()
    delays_P = model.delays_s()
    assert steady + scattered_P.sum() == pytest.approx(1.0)
    mean = (scattered_P * delays_P).sum()
    spread = ((scattered_P * delays_P**2).sum() - mean**2) ** 0.5
    assert spread == pytest.approx(300e-9, rel=0.01)


@pytest.mark.parametrize(("name", "k_db"), [("tdl_d", 13.3), ("tdl_e", 22.0)])
def test_what_is_in_sight_is_as_strong_as_the_report_says(name: str, k_db: float) -> None:
    """K of the first tap: its path in sight over its scattered ones."""
    steady, scattered_P = tdl(name).powers()
    assert 10.0 * np.log10(steady / scattered_P[0]) == pytest.approx(k_db, abs=0.01)


@pytest.mark.parametrize("name", PROFILES)
def test_taps_have_the_powers_of_the_table(name: str) -> None:
    model = tdl(name)
    tap = model.taps_over_time(draws(), (2000,), np.zeros(1))[:, 0]
    steady, scattered_P = model.powers()
    expected_P = scattered_P + steady * np.eye(1, len(scattered_P))[0]
    assert power(tap).mean(axis=0) == pytest.approx(expected_P, rel=0.16)


def test_a_tap_turns_as_bessel_says() -> None:
    """J0(2 pi f_D tau), Clarke's model."""
    model = OneTap(speed_kmh=60.0)
    lags = np.linspace(0.0, 1.5, 16) / model.doppler_hz
    tap = model.taps_over_time(draws(), (6000,), lags)[:, :, 0]
    found = (tap * tap[:, :1].conj()).mean(axis=0) / power(tap[:, 0]).mean()
    assert found.real == pytest.approx(j0(2.0 * np.pi * model.doppler_hz * lags), abs=0.05)
    assert found.imag == pytest.approx(np.zeros(16), abs=0.05)
    assert model.doppler_hz == pytest.approx(60.0 / 3.6 * 3.5e9 / 299_792_458.0)


def test_fades_are_as_frequent_and_as_long_as_rayleighs() -> None:
    """Level crossings sqrt(2 pi) f_D r e^(-r^2) a second, fades of (e^(r^2) - 1) / (r f_D sqrt(2 pi))."""
    model = OneTap(speed_kmh=60.0)
    step_s = 0.02 / model.doppler_hz
    tap = model.taps_over_time(draws(), (60,), np.arange(2000) * step_s)[:, :, 0]
    level = np.abs(tap) / np.sqrt(power(tap).mean())
    for rho in (0.3, 1.0):
        below = level < rho
        crossings = (below[:, :-1] & ~below[:, 1:]).sum()
        seconds = level.size * step_s
        assert crossings / seconds == pytest.approx(
            (2.0 * np.pi) ** 0.5 * model.doppler_hz * rho * np.exp(-(rho**2)), rel=0.12
        )
        assert below.sum() * step_s / crossings == pytest.approx(
            (np.exp(rho**2) - 1.0) / (rho * model.doppler_hz * (2.0 * np.pi) ** 0.5), rel=0.15
        )


@pytest.mark.parametrize("name", ["tdl_a", "tdl_d"])
def test_subcarriers_are_as_alike_as_the_delays_let_them(name: str) -> None:
    """E[h(f) h*(f + d)] is the Fourier transform of the power delay profile."""
    model = tdl(name, bandwidth_hz=2e6)
    h = model.response(draws(), (2500,), np.zeros(1))[:, 0]
    steady, scattered_P = model.powers()
    spacing_hz = np.arange(h.shape[1]) * 15e3
    expected = steady + (scattered_P * np.exp(2j * np.pi * spacing_hz[:, None] * model.delays_s())).sum(
        axis=1
    )
    found = (h[:, :1] * h.conj()).mean(axis=0)
    assert np.abs(found - expected).max() < 0.09
    assert power(h).mean() == pytest.approx(1.0, abs=0.05)


def test_torch_draws_the_same_channel() -> None:
    """Mean, and spread of what a codeword gets: the same to sampling error, though other numbers."""
    generator = torch.Generator().manual_seed(2)
    rows = 2500
    sent = (torch.randn(rows, 4, 32, generator=generator) * 0.5**0.5).requires_grad_()
    received, told_db = transmit(sent, "tdl_c", "block", torch.full((rows,), 10.0), generator)
    received.square().sum().backward()
    assert sent.grad is not None
    gain = (10.0 ** (told_db.detach().numpy() / 10.0)) / 10.0
    h = tdl().sample(draws(3), (rows, 1, 1), (rows, 4, 16))
    expected = power(h).mean(axis=(1, 2))
    assert gain.mean() == pytest.approx(1.0, abs=0.06)
    assert np.std(gain) == pytest.approx(np.std(expected), rel=0.2)


def test_what_is_told_is_unbiased_and_known_gains_are_undone() -> None:
    rng = np.random.default_rng(4)
    for csi in ("perfect", "estimated"):
        for snr_db in (-10.0, 10.0):
            config = ChannelConfig(model="tdl_a", csi=csi, snr_db=snr_db)  # type: ignore[arg-type]
            channel = Channel(config, rng)
            told = [channel.transmit(codeword(rng)).effective_snr_db for _ in range(250)]
            assert 10.0 * np.log10(np.mean(10.0 ** (np.array(told) / 10.0))) == pytest.approx(snr_db, abs=1.0)
    x_TC = codeword(rng)
    clean = Channel(ChannelConfig(model="tdl_a", snr_db=60.0, equalizer="zf"), rng).transmit(x_TC)
    assert clean.x_TC == pytest.approx(x_TC, abs=0.1)


def test_power_is_a_gain_before_the_channel() -> None:
    rng = np.random.default_rng(5)
    told = []
    for tx_power_db in (0.0, 10.0):
        channel = Channel(ChannelConfig(model="tdl_c", tx_power_db=tx_power_db, csi="estimated"), rng)
        told.append([channel.transmit(codeword(rng)).effective_snr_db for _ in range(150)])
    quiet, loud = (10.0 * np.log10(np.mean(10.0 ** (np.array(each) / 10.0))) for each in told)
    assert loud - quiet == pytest.approx(10.0, abs=1.5)


def test_estimates_are_good_where_pilots_are_and_cost_what_they_cost() -> None:
    """At a high SNR interpolated estimates leave hardly more error than known gains."""
    errors, uses = [], []
    for csi in ("perfect", "estimated"):
        rng = np.random.default_rng(6)
        config = ChannelConfig(model="tdl_c", csi=csi, snr_db=30.0)  # type: ignore[arg-type]
        found = []
        for _ in range(60):
            x_TC = codeword(rng)
            reception = Channel(config, rng).transmit(x_TC)
            found.append(np.mean((reception.x_TC - x_TC) ** 2))
            uses.append(reception.channel_uses)
        errors.append(np.mean(found))
    assert errors[1] < 3.0 * errors[0]
    # 66 subcarriers: every sixth is a pilot, and a cyclic prefix comes on top.
    assert uses[0] == np.ceil(256 * (1.0 + CYCLIC_PREFIX))
    assert uses[-1] == np.ceil((256 + 52) * (1.0 + CYCLIC_PREFIX))


@pytest.mark.parametrize("subcarriers", [1, 2, 5, 6, 7, 66])
@pytest.mark.parametrize("spacing", [0, 2, 6])
@pytest.mark.parametrize("data", [1, 16, 257])
def test_every_symbol_has_a_place_of_its_own(subcarriers: int, spacing: int, data: int) -> None:
    grid = Grid(subcarriers, 15e3, spacing)
    place_D, place_Q = grid.places(data)
    assert len(np.unique(place_D)) == data
    assert not set(place_D) & set(place_Q)
    assert bool(len(place_Q)) == bool(spacing)
    assert grid.channel_uses(data) >= data
    if spacing:
        flat = interpolate(np.full(len(place_Q), 2 - 1j, np.complex64), place_Q, place_D, grid)
        assert flat == pytest.approx(np.full(data, 2 - 1j))


def test_a_line_between_pilots_is_followed() -> None:
    grid = Grid(12, 15e3, 4)
    place_D, place_Q = grid.places(18)
    gains = np.arange(24) % 12 * (1.0 + 0.5j)
    found = interpolate(gains[place_Q].astype(np.complex64), place_Q, place_D, grid)
    inside = place_D % 12 <= 8
    assert found[inside] == pytest.approx(gains[place_D][inside])


def test_a_band_narrower_than_a_subcarrier_is_one() -> None:
    grid = Grid.over(2e3, 15e3)
    assert (grid.subcarriers, grid.spacing_hz) == (1, 2e3)
    assert Grid.over(1e12, 15e3).subcarriers == 3300


@pytest.mark.parametrize("change", [{"pilot_spacing": 1}, {"carrier_ghz": 0.0}, {"speed_kmh": -1.0}])
def test_settings_that_cannot_be_are_named(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(change))):
        ChannelConfig(**change)


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_are_those_of_sionna(name: str) -> None:
    """Delays and powers, of an implementation that is not ours."""
    with warnings.catch_warnings(action="ignore"):
        tr38901 = pytest.importorskip("sionna.phy.channel.tr38901")
        theirs = tr38901.TDL(name[-1].upper(), 300e-9, 3.5e9)
        delays_P, powers_P = np.asarray(theirs.delays), np.asarray(theirs.mean_powers)
        in_sight = float(theirs.mean_power_los) if theirs.los else 0.0
    model = tdl(name, delay_spread_ns=300.0)
    steady, scattered_P = model.powers()
    # The path in sight is part of their first tap.
    ours_P = scattered_P + steady * np.eye(1, len(scattered_P))[0]
    order, theirs_order = np.lexsort((ours_P, model.delays_s())), np.lexsort((powers_P, delays_P))
    assert model.delays_s()[order] == pytest.approx(delays_P[theirs_order], abs=1e-12)
    assert ours_P[order] == pytest.approx(powers_P[theirs_order], abs=1e-6)
    assert steady == pytest.approx(in_sight, abs=1e-6)
