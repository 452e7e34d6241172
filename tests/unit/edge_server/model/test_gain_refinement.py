"""Gains told by tokens: closed forms where there are some, and that nothing is read into noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from device_agent.channel import apply, equalize_mmse, from_symbols, to_symbols
from edge_server.errors import ModelError
from edge_server.model.gain_refinement import PHASES, SIZES, GainRefiner
from edge_server.model.token_prior import FILE, TokenPrior, TokenPriors

T, C, CLUSTERS = 8, 16, 4
PILOTS = 4


def prior(rng: np.random.Generator) -> TokenPrior:
    size = T * C
    means_KD = rng.normal(0.0, 0.5**0.5, (CLUSTERS, size)).astype(np.float32)
    axes_DR = np.linalg.qr(rng.normal(size=(size, 6)))[0].astype(np.float32)
    return TokenPrior(
        means_KD=means_KD,
        weights_K=np.full(CLUSTERS, 1.0 / CLUSTERS, np.float32),
        axes_DR=axes_DR,
        variances_R=np.full(6, 0.2, np.float32),
        rest=np.array([0.01], np.float32),
    )


def block(known: TokenPrior, rng: np.random.Generator) -> np.ndarray:
    x_D = known.means_KD[rng.integers(CLUSTERS)]
    x_D = x_D + known.axes_DR @ (known.variances_R**0.5 * rng.normal(size=6))
    x_D = x_D + known.rest[0] ** 0.5 * rng.normal(size=len(x_D))
    return np.asarray(x_D.reshape(T, C), np.float32)


def crossed(
    x_TC: np.ndarray, gain: complex, taken: complex, n0: float, rng: np.random.Generator
) -> np.ndarray:
    """A block through a gain, equalised by what that is taken to be."""
    s = to_symbols(x_TC)
    noise = (rng.normal(size=s.shape) + 1j * rng.normal(size=s.shape)).astype(np.complex64) * 0.5**0.5
    y = apply(s, np.full((1, 1), gain, np.complex64), noise, n0)
    return np.asarray(from_symbols(equalize_mmse(y, np.full((1, 1), taken, np.complex64), n0)))


def test_without_noise_what_comes_out_is_what_the_true_gain_would_have_given() -> None:
    rng = np.random.default_rng(1)
    known = prior(rng)
    n0 = 1e-2
    # A gain on the grid: so many steps of phase off, and of another size.
    u = SIZES[4] * np.exp(2j * np.pi * 5 / PHASES)
    x_TC = block(known, rng)
    taken = 0.9 * np.exp(1j)
    rough = crossed(x_TC, u * taken, taken, n0, np.random.default_rng(2))
    right = crossed(x_TC, u * taken, u * taken, n0, np.random.default_rng(2))
    told_db = 10.0 * np.log10(abs(taken) ** 2 / n0)
    # One pilot, so that it is the tokens that tell.
    refined, snr_db = GainRefiner(known).refine(rough, told_db, 1)
    np.testing.assert_allclose(refined, right, atol=1e-5)
    assert snr_db == pytest.approx(10.0 * np.log10(abs(u * taken) ** 2 / n0))


def test_tokens_tell_a_phase_that_four_pilots_leave_open() -> None:
    rng = np.random.default_rng(3)
    known = prior(rng)
    refiner, n0 = GainRefiner(known), 1.0
    before, after = [], []
    for _ in range(100):
        x_TC = block(known, rng)
        h = complex(*rng.normal(size=2)) * 0.5**0.5
        taken = h + complex(*rng.normal(size=2)) * (n0 / PILOTS / 2) ** 0.5
        rough = crossed(x_TC, h, taken, n0, rng)
        snr_db = 10.0 * np.log10(max(abs(taken) ** 2 / n0, 1e-3))
        refined, _ = refiner.refine(rough, snr_db, PILOTS)
        sent = to_symbols(x_TC)
        for told, found in ((rough, before), (refined, after)):
            found.append(abs(np.angle(np.vdot(sent, to_symbols(told)))))
    assert np.mean(after) < 0.5 * np.mean(before)


def test_tokens_without_a_direction_leave_the_gain_as_pilots_told_it() -> None:
    rng = np.random.default_rng(4)
    size = T * C
    known = replace(
        prior(rng),
        means_KD=np.zeros((1, size), np.float32),
        weights_K=np.ones(1, np.float32),
        variances_R=np.full(6, 0.5, np.float32),
        rest=np.array([0.5], np.float32),
    )
    refiner = GainRefiner(known)
    for _ in range(20):
        x_TC = rng.normal(0.0, 0.5**0.5, (T, C)).astype(np.float32)
        rough = crossed(x_TC, 1.0, 1.0, 0.5, rng)
        refined, _ = refiner.refine(rough, 3.0, PILOTS)
        turned = np.angle(np.vdot(to_symbols(rough), to_symbols(refined)))
        assert abs(turned) < 1e-6


def test_where_pilots_leave_nothing_open_nothing_is_done() -> None:
    rng = np.random.default_rng(5)
    x_TC = rng.normal(size=(T, C)).astype(np.float32)
    refined, snr_db = GainRefiner(prior(rng)).refine(x_TC, 35.0, PILOTS)
    assert refined is x_TC
    assert snr_db == 35.0


def test_priors_are_read_as_they_were_written(tmp_path: Path) -> None:
    known = prior(np.random.default_rng(6))
    priors = TokenPriors("ab" * 32, {("visual", T): known})
    priors.save(tmp_path)
    again = TokenPriors.load(tmp_path)
    assert again.bundle_hash == priors.bundle_hash
    np.testing.assert_allclose(again.of["visual", T].means_KD, known.means_KD, atol=2e-3)
    assert again.of["visual", T].rest.shape == (1,)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"weights_K": np.ones(3, np.float32)}, "weights_K has shape"),
        ({"rest": np.array([np.nan], np.float32)}, "not finite"),
        ({"variances_R": np.zeros(6, np.float32)}, "not above 0"),
    ],
)
def test_priors_that_do_not_fit_are_refused(
    tmp_path: Path, changed: dict[str, np.ndarray], said: str
) -> None:
    known = replace(prior(np.random.default_rng(7)), **changed)
    TokenPriors("ab" * 32, {("audio", T): known}).save(tmp_path)
    with pytest.raises(ModelError, match=said):
        TokenPriors.load(tmp_path)


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"nothing")
    with pytest.raises(ModelError, match=FILE):
        TokenPriors.load(tmp_path)
