"""What the link reports, refuses and repeats."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_agent.channel import (
    Channel,
    ChannelConfig,
    Pacer,
    SnrTrace,
    channel_model,
    from_symbols,
    read_trace,
    sample_gain,
    to_symbols,
)
from device_agent.errors import ConfigurationError
from protos.names import CHANNEL_MODELS, ChannelName, FadingName


def block(token_length: int = 4, channel_dim: int = 8) -> np.ndarray:
    x = np.random.default_rng(0).standard_normal((token_length, channel_dim))
    return (x / np.sqrt(2.0 * np.mean(x**2))).astype(np.float32)


def test_symbols_pair_the_first_half_with_the_second() -> None:
    s = to_symbols(np.array([[1.0, 2.0, 3.0, 4.0]], np.float32))
    assert s.dtype == np.complex64
    np.testing.assert_array_equal(s, [[1 + 3j, 2 + 4j]])
    np.testing.assert_array_equal(from_symbols(s), [[1.0, 2.0, 3.0, 4.0]])


def test_unit_symbol_energy_is_mean_square_one_half() -> None:
    assert np.mean(np.abs(to_symbols(block(32, 64))) ** 2) == pytest.approx(1.0, rel=1e-5)


def test_none_is_a_perfect_wire_that_still_takes_airtime() -> None:
    x = block()
    received = Channel(ChannelConfig(model="none", bandwidth_hz=1000.0), np.random.default_rng(0)).transmit(x)
    np.testing.assert_array_equal(received.x_TC, x)
    assert received.x_TC is not x
    assert received.effective_snr_db == 40.0
    assert received.channel_uses == 16
    assert received.airtime_s == pytest.approx(0.016)


@pytest.mark.parametrize("model", sorted(CHANNEL_MODELS))
@pytest.mark.parametrize("fading", ["block", "fast"])
def test_every_model_keeps_shape_and_repeats_by_seed(model: ChannelName, fading: str) -> None:
    config = ChannelConfig(model=model, fading=fading)  # type: ignore[arg-type]
    x = block()
    first, second, other = (
        Channel(config, np.random.default_rng(seed)).transmit(x).x_TC for seed in (1, 1, 2)
    )
    assert first.shape == x.shape
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, second)
    assert np.array_equal(first, other) == (model == "none")


def test_effective_snr_follows_the_gain_and_is_clamped() -> None:
    config = ChannelConfig(model="rayleigh", snr_db=3.0)
    received = Channel(config, np.random.default_rng(5)).transmit(block())
    h = sample_gain(channel_model("rayleigh"), "block", (4, 4), np.random.default_rng(5))
    assert received.effective_snr_db == pytest.approx(3.0 + 20.0 * math.log10(abs(h[0, 0])), abs=1e-4)
    for snr_db, told in ((90.0, 40.0), (-90.0, -30.0)):
        channel = Channel(ChannelConfig(snr_db=snr_db), np.random.default_rng(0))
        assert channel.transmit(block()).effective_snr_db == told


@pytest.mark.parametrize(("fading", "pilots", "uses"), [("block", 4, 16 + 4), ("fast", 2, 16 + 32)])
def test_pilots_cost_channel_uses(fading: str, pilots: int, uses: int) -> None:
    config = ChannelConfig(model="rayleigh", fading=fading, csi="estimated", pilots=pilots)  # type: ignore[arg-type]
    assert Channel(config, np.random.default_rng(0)).transmit(block()).channel_uses == uses


@pytest.mark.parametrize(
    ("told", "pilots"),
    [
        ({"csi": "estimated", "pilots": 6}, 6),
        ({"csi": "perfect", "pilots": 6}, 0),
        ({"csi": "estimated", "fading": "fast"}, 0),
        ({"csi": "estimated", "equalizer": "zf"}, 0),
        ({"csi": "estimated", "model": "tdl_a"}, 0),
    ],
)
def test_of_one_gain_that_was_estimated_its_pilots_are_told(told: dict[str, Any], pilots: int) -> None:
    config = ChannelConfig(**{"model": "rayleigh", **told})
    assert Channel(config, np.random.default_rng(0)).transmit(block()).pilots == pilots


def test_a_trace_sets_the_snr_of_the_moment() -> None:
    now = 100.0
    trace = SnrTrace((0.0, 1.0, 2.5), (20.0, -5.0, 7.0))
    channel = Channel(ChannelConfig(snr_db=99.0), np.random.default_rng(0), trace=trace, clock=lambda: now)
    for now, snr_db in ((100.0, 20.0), (100.99, 20.0), (101.0, -5.0), (102.6, 7.0), (9999.0, 7.0)):  # noqa: B007
        assert channel.snr_db == snr_db
        assert channel.transmit(block()).effective_snr_db == snr_db


def test_trace_is_read_from_csv(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("time_s,snr_db\n0,10\n0.5,3.5\n")
    assert read_trace(path) == SnrTrace((0.0, 0.5), (10.0, 3.5))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("time,snr\n0,1\n", "time_s,snr_db"),
        ("", "time_s,snr_db"),
        ("time_s,snr_db\n", "at least 1"),
        ("time_s,snr_db\n0,1\n1\n", "line 3"),
        ("time_s,snr_db\n0,loud\n", "line 2"),
        ("time_s,snr_db\n1,1\n1,2\n", "increase"),
        ("time_s,snr_db\n0,nan\n", "finite"),
    ],
)
def test_a_broken_trace_is_refused_by_name(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=complaint):
        read_trace(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "wifi"),
        ("fading", "slow"),
        ("csi", "some"),
        ("equalizer", "none"),
        ("snr_db", math.nan),
        ("snr_db", 1e6),
        ("bandwidth_hz", 0.0),
        ("bandwidth_hz", math.inf),
        ("pilots", 0),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=field):
        ChannelConfig(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(4, 7), (8,), (0, 8)])
def test_a_block_that_makes_no_symbols_is_refused(shape: tuple[int, ...]) -> None:
    channel = Channel(ChannelConfig(), np.random.default_rng(0))
    with pytest.raises(ConfigurationError, match="shape"):
        channel.transmit(np.zeros(shape, np.float32))


async def test_pacing_keeps_the_radio_busy_but_never_faster_than_its_bandwidth() -> None:
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    pacer = Pacer(1000.0, clock=lambda: now, sleep=sleep)
    assert await pacer.pace(500) == pytest.approx(0.5)
    assert now == pytest.approx(0.5)
    assert pacer.reserve(100) == pytest.approx(0.1)
    assert pacer.reserve(100) == pytest.approx(0.2)  # behind the first
    now = 10.0  # idle time is not saved up
    assert await pacer.pace(1000) == pytest.approx(1.0)
    assert now == pytest.approx(11.0)


def test_a_radio_without_bandwidth_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="bandwidth_hz"):
        Pacer(0.0)


@pytest.mark.parametrize(
    ("model", "fading", "expected"),
    [
        ("rayleigh", "block", [0.2528626, -0.10246767, 0.45709345]),
        ("rician", "fast", [0.46106538, 0.14472094, 0.9002272]),
    ],
)
def test_a_seed_gives_the_samples_that_it_always_gave(
    model: str, fading: FadingName, expected: list[float]
) -> None:
    config = ChannelConfig(model=model, fading=fading, snr_db=3.0)
    received = Channel(config, np.random.default_rng(5)).transmit(block())
    np.testing.assert_allclose(received.x_TC[0, :3], expected, rtol=1e-4)
