"""What codes promise, against closed forms and against what is simulated."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import exp1

from device_agent.channel import ChannelConfig
from edge_server.errors import ConfigurationError
from edge_server.study.digital import coding
from edge_server.study.digital.codes import (
    IdealCode,
    LdpcQam,
    capacity_bits,
    mean_loss,
    snr_db_of_capacity,
)
from edge_server.study.digital.coding import Codec, Effort, build_table, simulate, waterfall
from edge_server.study.digital.error_table import ErrorTable, Waterfall
from edge_server.study.digital.mcs import MCS_TABLE, Mcs
from tests.closed_forms import EBN0_TO_SNR_DB, awgn_bit_error_rate

QUICK = Effort(blocks=100, errors=20, batch=50)
HALF_RATE = Mcs(2, 512)


def snr_db_of_normal_approximation(bits: int, channel_uses: int, error_rate: float) -> float:
    """Where the best code of finite length loses so many blocks (Polyanskiy, Poor, Verdú 2010, eq. 223)."""
    q_inverse = {0.1: 1.2816}[error_rate]

    def rate(snr: float) -> float:
        dispersion = snr * (snr + 2) / (2 * (snr + 1) ** 2) * math.log2(math.e) ** 2
        reals = 2 * channel_uses
        per_real = 0.5 * math.log2(1 + snr) - math.sqrt(dispersion / reals) * q_inverse
        return 2 * (per_real + 0.5 * math.log2(reals) / reals)

    grid_db = np.linspace(-15, 30, 4501)
    rates = [rate(10 ** (db / 10)) for db in grid_db]
    return float(np.interp(bits / channel_uses, rates, grid_db))


def test_sionna_comes_with_the_first_codec_and_leaves_torchs_random_numbers_alone() -> None:
    code = (
        "import sys, torch; torch.manual_seed(3); state = torch.random.get_rng_state();"
        "from edge_server.study.digital import coding, mcs; assert 'sionna' not in sys.modules;"
        "coding.Codec(mcs.Mcs(2, 512), 64); assert 'sionna' in sys.modules;"
        "assert torch.equal(state, torch.random.get_rng_state())"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_sionna_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sionna.phy", None)
    monkeypatch.setitem(sys.modules, "sionna", None)
    with pytest.raises(ConfigurationError, match=r"tokenlink\[evaluation\]"):
        Codec(HALF_RATE, 64)


def test_the_table_of_schemes_rises() -> None:
    efficiencies = [mcs.efficiency for mcs in MCS_TABLE]
    assert efficiencies == sorted(efficiencies)
    assert efficiencies[0] < 0.16
    assert efficiencies[-1] > 7
    assert len({mcs.name for mcs in MCS_TABLE}) == len(MCS_TABLE)
    assert Mcs(2, 78).bits(64) == 0  # 9 bits: no such code
    assert Mcs(2, 78).bits(128) == 19


def test_capacity() -> None:
    assert capacity_bits(100, 0.0) == pytest.approx(100)
    assert capacity_bits(1, 10 * math.log10(3)) == pytest.approx(2)
    snr_db = np.array([-20.0, 0.0, 10.0, 30.0])
    snr = 10 ** (snr_db / 10)
    # The integral in closed form: exp(1 / SNR) E1(1 / SNR) / ln 2.
    ergodic = np.exp(1 / snr) * exp1(1 / snr) / math.log(2)
    np.testing.assert_allclose(capacity_bits(1, snr_db, "fast"), ergodic, rtol=1e-6)
    assert snr_db_of_capacity(1.0) == pytest.approx(0.0)
    assert capacity_bits(1, snr_db_of_capacity(3.0, "fast"), "fast") == pytest.approx(3.0, abs=1e-3)


def test_an_ideal_code_is_lost_as_often_as_the_channel_is_in_outage() -> None:
    code = IdealCode()
    block = ChannelConfig(model="rayleigh", fading="block", snr_db=10.0)
    words = code.codewords(256, block)
    assert [word.bits for word in words] == sorted(word.bits for word in words)
    for word in words:
        outage = 1 - math.exp(-(2 ** (word.bits / 256) - 1) / 10)
        assert mean_loss(code, word, block) == pytest.approx(outage, abs=2e-3)
    (word,) = code.codewords(256, ChannelConfig(model="awgn", snr_db=0.0))
    assert word.bits == 256
    assert mean_loss(code, word, ChannelConfig(model="awgn", snr_db=0.0)) == 0.0
    assert mean_loss(code, word, ChannelConfig(model="awgn", snr_db=-0.1)) == 1.0


@pytest.mark.parametrize("bits_per_symbol", [2, 4, 6, 8])
def test_symbols_have_unit_energy_and_come_back_without_noise(bits_per_symbol: int) -> None:
    codec = Codec(Mcs(bits_per_symbol, 512), 64)
    bits = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (40, codec.bits)).astype(np.float32))
    s = codec.encode(bits)
    assert s.shape == (40, 64)
    assert float(s.abs().square().mean()) == pytest.approx(1.0, abs=0.05)
    assert codec.decode_errors(codec.demap(s, torch.full((40, 64), 1e-3)), bits) == 0
    assert codec.decode_errors(-codec.demap(s, torch.full((40, 64), 1e-3)), bits) == 40


@pytest.mark.parametrize("bits_per_symbol", [2, 4, 6, 8])
def test_demapping_each_axis_is_demapping_the_plane(bits_per_symbol: int) -> None:
    from sionna.phy.mapping import Demapper

    codec = Codec(Mcs(bits_per_symbol, 512), 64)
    generator = torch.Generator().manual_seed(0)
    s = codec.encode(torch.randint(0, 2, (4, codec.bits), generator=generator).float())
    y = s + 0.1 * torch.randn(s.shape, generator=generator)
    n0 = 0.02 + 0.1 * torch.rand(s.shape, generator=generator)
    plane = Demapper("app", "qam", bits_per_symbol, device="cpu")(y, n0)
    torch.testing.assert_close(codec.demap(y, n0), plane, rtol=1e-4, atol=1e-3)


def test_uncoded_bits_of_a_code_are_wrong_as_often_as_qpsk_without_code() -> None:
    codec = Codec(HALF_RATE, 512)
    rng = np.random.default_rng(0)
    s = codec.encode(torch.from_numpy(rng.integers(0, 2, (50, codec.bits)).astype(np.float32)))
    ebn0_db = 4.0
    n0 = 10 ** (-(ebn0_db + EBN0_TO_SNR_DB) / 10)
    noise = torch.from_numpy((rng.standard_normal((2, *s.shape)) * (n0 / 2) ** 0.5).astype(np.float32))
    clean = codec.demap(s, torch.full(s.shape, n0)) > 0
    hard = codec.demap(s + torch.complex(noise[0], noise[1]), torch.full(s.shape, n0)) > 0
    rate = awgn_bit_error_rate(ebn0_db)
    spread = math.sqrt(rate / clean.numel())
    assert float((hard != clean).float().mean()) == pytest.approx(rate, abs=4 * spread)


def test_half_rate_qpsk_is_where_finite_length_says() -> None:
    codec = Codec(HALF_RATE, 512)
    best_db = snr_db_of_normal_approximation(codec.bits, 512, 0.1)
    rng = np.random.default_rng(1)
    lost, sent = simulate(codec, "awgn", best_db, rng, QUICK)
    assert lost / sent > 0.1  # no code does better
    lost, sent = simulate(codec, "awgn", best_db + 1.5, rng, QUICK)
    assert lost / sent < 0.1


def test_repetition_gains_what_it_costs() -> None:
    """Rate 1/8 sends a code of rate 1/5 over and again: as many bits at the energy of 8/5 as many symbols."""
    repeated, mother = Codec(Mcs(2, 128), 128), Codec(Mcs(2, 205), 80)
    assert abs(repeated.bits - mother.bits) <= 1
    rng = np.random.default_rng(0)
    gain_db = 10 * math.log10(128 / 80)
    effort = Effort(blocks=400, errors=400)
    lost_repeated, sent = simulate(repeated, "awgn", -5.5, rng, effort)
    lost_mother, _ = simulate(mother, "awgn", -5.5 + gain_db, rng, effort)
    assert 0.05 < lost_mother / sent < 0.95
    assert lost_repeated / sent == pytest.approx(lost_mother / sent, abs=0.12)


def test_a_waterfall_falls_and_fading_costs_snr() -> None:
    effort = Effort(blocks=50, errors=10, batch=50, step_db=1.0)
    mcs = Mcs(2, 449)
    awgn = waterfall(mcs, 64, "awgn", 0, effort)
    fading = waterfall(mcs, 64, "rayleigh", 0, effort)
    for curve in (awgn, fading):
        assert curve.lost[0] == curve.blocks[0]
        assert curve.lost[-1] == 0
        rates = curve.rate(np.linspace(-20, 40, 300))
        assert (np.diff(rates) <= 0).all()
        assert rates[0] == 1.0
        assert rates[-1] == 0.0
    middle = [float(np.interp(-0.5, -curve.rate(curve.snr_db), curve.snr_db)) for curve in (awgn, fading)]
    assert middle[0] > snr_db_of_capacity(mcs.efficiency)  # Shannon's bound
    assert middle[1] > middle[0] + 0.5
    assert waterfall(mcs, 64, "awgn", 0, effort) == awgn


def test_rates_between_points_are_on_a_logarithmic_line() -> None:
    curve = Waterfall((0.0, 1.0, 2.0, 3.0), (100, 10, 20, 0), (100, 100, 100, 100))
    assert curve.rate(0.5) == pytest.approx(math.sqrt(0.1))
    assert curve.rate(2.0) == pytest.approx(0.1)  # the rise at 2 dB is chance
    assert curve.rate(3.0) == pytest.approx(0.005)
    assert curve.rate(3.1) == 0.0
    assert curve.rate(-0.1) == 1.0


def test_a_table_goes_on_where_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def counted(mcs: Mcs, channel_uses: int, kind: str, seed: int, effort: Effort) -> Waterfall:
        made.append((mcs, channel_uses, kind))
        return Waterfall((0.0, 1.0), (50, 0), (50, 50))

    monkeypatch.setattr(coding, "waterfall", counted)
    schemes = (Mcs(2, 78), Mcs(2, 449), Mcs(4, 490))
    path = tmp_path / "table.json"
    build_table(ErrorTable(path, {"seed": 0}), [64], schemes=schemes)
    assert len(made) == 4  # the lowest rate has no code of 64 symbols
    build_table(ErrorTable(path, {"seed": 0}), [64, 128], schemes=schemes)
    assert len(made) == 4 + 6
    assert ErrorTable(path).get("rayleigh", 128, Mcs(2, 78)) is not None
    with pytest.raises(ConfigurationError, match="seed"):
        ErrorTable(path, {"seed": 1})
    path.write_text("[]")
    with pytest.raises(ConfigurationError, match="not a table"):
        ErrorTable(path)


def test_ldpc_offers_only_what_may_be_worth_it(tmp_path: Path) -> None:
    table = ErrorTable(tmp_path / "table.json", {})
    for mcs, middle_db in zip(MCS_TABLE, range(-10, 22, 2), strict=True):
        table.put("awgn", 256, mcs, Waterfall((middle_db, middle_db + 1.0), (100, 0), (100, 100)))
    code = LdpcQam(table)
    channel = ChannelConfig(model="awgn", snr_db=0.5)
    words = code.codewords(256, channel)
    assert [word.mcs for word in words] == [MCS_TABLE[4], MCS_TABLE[5]]
    losses = [mean_loss(code, word, channel) for word in words]
    assert losses[0] == 0.0
    assert 0 < losses[1] < 1
    block = ChannelConfig(model="rayleigh", fading="block", snr_db=0.5)
    word = words[0]  # all lost at -2 dB, next to nothing at -1 dB: gains of -2.5 and -1.5 dB
    assert 1 - math.exp(-(10**-0.25)) < mean_loss(code, word, block) < 1 - math.exp(-(10**-0.15))
    with pytest.raises(ConfigurationError, match="channel_uses is 32"):
        code.codewords(32, channel)
    with pytest.raises(ConfigurationError, match="over rayleigh"):
        code.codewords(256, ChannelConfig(model="rayleigh", fading="fast"))
