"""Gains and outage of an ideal code over rounds, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from edge_server.study.semantic.outage import HALVES, Air, ideal, information, rounds_needed

DRAWS = 200_000
USES = 64


def outage_of_one(rate: float, snr: float) -> float:
    """P(log2(1 + SNR g) < rate), g ~ Exp(1)."""
    return float(1.0 - np.exp(-(2.0**rate - 1.0) / snr))


def outage_of_two(rate: float, snr: float) -> float:
    """P(log2(1 + SNR g1) + log2(1 + SNR g2) < rate): over g2 in closed form, over g1 by the trapezoid."""
    gain = np.linspace(0.0, (2.0**rate - 1.0) / snr, 20_001)
    second = 1.0 - np.exp(-(2.0**rate / (1.0 + snr * gain) - 1.0) / snr)
    return float(np.trapezoid(np.exp(-gain) * second, gain))


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 10.0])
def test_accumulated_information_is_in_outage_as_often_as_closed_forms_say(snr_db: float) -> None:
    rate = 1.2
    met = Air(snr_db=snr_db).meet(DRAWS, seed=1)
    got = ideal(met[:, :2, :1], USES, rate * USES)  # a whole burst over one gain
    snr = 10 ** (snr_db / 10)
    after_one = float(1.0 - (got.through_N & (got.rounds_N == 1)).mean())
    assert after_one == pytest.approx(outage_of_one(rate, snr), abs=0.005)
    assert float(1.0 - got.through_N.mean()) == pytest.approx(outage_of_two(rate, snr), abs=0.005)
    # The second round comes where the first was in outage: uses in the mean.
    assert float(got.rounds_N.mean()) == pytest.approx(1.0 + outage_of_one(rate, snr), abs=0.005)


def test_both_halves_of_a_burst_count_for_half() -> None:
    rate, snr = 1.0, 1.0
    met = Air().meet(DRAWS, seed=2)
    one_burst = ideal(met[:, :1], USES, rate * USES)
    # Half the uses over each of two gains: two rounds of half the length.
    assert float(1.0 - one_burst.through_N.mean()) == pytest.approx(outage_of_two(2 * rate, snr), abs=0.005)


def test_one_gain_for_all_makes_rounds_only_longer() -> None:
    met = Air(spread="same").meet(1000, seed=3)
    assert met.shape == (1000, 4, HALVES)
    assert (met == met[:, :1, :1]).all()
    np.testing.assert_allclose(information(met, 10)[:, 3], information(met, 40)[:, 0])


def test_awgn_has_no_luck() -> None:
    met = Air("awgn", snr_db=3.0).meet(5, seed=1)
    np.testing.assert_allclose(met, 10**0.3, rtol=1e-5)
    bits = USES * np.log2(1 + 10**0.3)
    assert ideal(met, USES, 0.99 * bits).rounds_N.tolist() == [1] * 5
    assert ideal(met, USES, 1.01 * bits).rounds_N.tolist() == [2] * 5
    assert ideal(met, USES, 0.99 * bits, gap_db=0.5).rounds_N.tolist() == [2] * 5


def test_gains_are_exponential_new_each_round_and_repeat_with_the_seed() -> None:
    met = Air(snr_db=10.0).meet(50_000, seed=4)
    assert met.mean() == pytest.approx(10.0, rel=0.01)
    assert met.std() == pytest.approx(10.0, rel=0.02)
    flat = met.reshape(len(met), -1)
    assert np.abs(np.corrcoef(flat.T) - np.eye(flat.shape[1])).max() < 0.03
    np.testing.assert_array_equal(met, Air(snr_db=10.0).meet(50_000, seed=4))


def test_rounds_end_with_the_first_that_is_enough() -> None:
    there = np.array([[False, True, True], [True, True, True], [False, False, False]])
    assert rounds_needed(there).tolist() == [2, 1, 3]
