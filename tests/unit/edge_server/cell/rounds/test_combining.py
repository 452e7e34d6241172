"""Receptions of the same tokens, combined by maximum ratio: SNRs add, and MMSE leaves what is left."""

from __future__ import annotations

import numpy as np
import pytest

from device_agent.channel import Channel, ChannelConfig, EqualizerName, to_symbols
from edge_server.cell.rounds import ReceivedBlock, Segment

TOKENS = np.random.default_rng(0).standard_normal((4000, 32)).astype(np.float32) * np.float32(0.5**0.5)


def received(snr_db: float, seed: int, equalizer: EqualizerName = "mmse", model: str = "rayleigh") -> Segment:
    config = ChannelConfig(model=model, fading="block", snr_db=snr_db, equalizer=equalizer)
    reception = Channel(config, np.random.default_rng(seed)).transmit(TOKENS)
    return Segment(reception.x_TC, reception.effective_snr_db, equalizer == "zf")


def linear(snr_db: float) -> float:
    return float(10.0 ** (snr_db / 10.0))


def error(segment: Segment) -> float:
    """Mean square error per symbol of unit energy."""
    return float(np.mean(np.abs(to_symbols(segment.x_TC) - to_symbols(TOKENS)) ** 2))


@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 10.0])
def test_snrs_of_receptions_add_and_the_error_is_that_of_their_sum(snr_db: float) -> None:
    parts = [received(snr_db, seed) for seed in (1, 2, 3)]
    both = parts[0].again(parts[1])
    total = both.again(parts[2])
    assert linear(total.snr_db) == pytest.approx(sum(linear(part.snr_db) for part in parts), rel=1e-6)
    assert (both.receptions, total.receptions) == (2, 3)
    # Of Gaussian symbols, MMSE leaves 1 / (1 + SNR).
    assert error(total) == pytest.approx(1.0 / (1.0 + linear(total.snr_db)), rel=0.03)
    assert error(total) < error(both) < min(map(error, parts[:2]))
    late = parts[2].again(parts[0]).again(parts[1])
    np.testing.assert_allclose(late.x_TC, total.x_TC, atol=1e-5)


def test_two_alike_are_3_db_better() -> None:
    one, other = (received(3.0, seed, model="awgn") for seed in (1, 2))
    assert one.again(other).snr_db == pytest.approx(3.0 + 10.0 * np.log10(2.0))


def test_what_zero_forcing_leaves_stays_unbiased() -> None:
    one, other = (received(5.0, seed, "zf") for seed in (4, 5))
    total = one.again(other)
    assert error(total) == pytest.approx(1.0 / linear(total.snr_db), rel=0.03)
    with pytest.raises(ValueError, match="equaliser"):
        one.again(received(5.0, 6))
    with pytest.raises(ValueError, match="shape"):
        one.again(Segment(one.x_TC[:3], 0.0, zero_forcing=True))


def test_a_block_tells_its_tokens_in_order_and_their_mean_snr() -> None:
    first, then = Segment(TOKENS[:2], 0.0), Segment(TOKENS[2:8], 10.0)
    block = ReceivedBlock((first,)).with_more(then)
    np.testing.assert_array_equal(block.tokens(), TOKENS[:8])
    assert (block.token_length, block.last_begins, block.last) == (8, 2, then)
    assert linear(block.snr_db()) == pytest.approx((2 * 1.0 + 6 * 10.0) / 8)
    again = block.with_again(Segment(TOKENS[2:8], 10.0))
    assert (again.token_length, again.last.receptions) == (8, 2)
    assert again.last.snr_db == pytest.approx(10.0 + 10.0 * np.log10(2.0))


def linear_of_each(segment: Segment) -> np.ndarray:
    linear_T: np.ndarray = 10.0 ** (segment.told_db().astype(np.float64) / 10.0)
    return linear_T


@pytest.mark.parametrize("equalizer", ["mmse", "zf"])
def test_where_tokens_differ_each_is_combined_by_its_own(equalizer: EqualizerName) -> None:
    """Two receptions over delay lines: weights of each token leave less error than those of the block."""
    config = ChannelConfig(
        model="tdl_a", snr_db=5.0, equalizer=equalizer, snr_per="token", delay_spread_ns=1000.0
    )
    parts = []
    for seed in (1, 2):
        reception = Channel(config, np.random.default_rng(seed)).transmit(TOKENS)
        told = reception.token_snr_db_T
        parts.append(
            Segment(reception.x_TC, reception.effective_snr_db, equalizer == "zf", token_snr_db_T=told)
        )
    both = parts[0].again(parts[1])
    assert both.token_snr_db_T is not None
    np.testing.assert_allclose(linear_of_each(both), sum(map(linear_of_each, parts)), rtol=1e-4)
    blind = [Segment(part.x_TC, part.snr_db, part.zero_forcing) for part in parts]
    assert error(both) < error(blind[0].again(blind[1]))
    # Where no more than the block's is told of one, that is of each of its tokens.
    mixed = parts[0].again(blind[1])
    expected = linear_of_each(parts[0]) + linear(parts[1].snr_db)
    np.testing.assert_allclose(linear_of_each(mixed), expected, rtol=1e-4)


def test_a_block_tells_the_snr_of_each_token_in_order() -> None:
    told = np.array([3.0, 4.0], np.float32)
    first, then = Segment(TOKENS[:2], 0.0, token_snr_db_T=told), Segment(TOKENS[2:5], 10.0)
    of_each = ReceivedBlock((first,)).with_more(then).token_snr_db()
    assert of_each is not None
    assert of_each.tolist() == [3.0, 4.0, 10.0, 10.0, 10.0]
    assert ReceivedBlock((then,)).token_snr_db() is None, "as the block's"
