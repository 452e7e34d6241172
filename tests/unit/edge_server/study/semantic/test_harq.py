"""HARQ over LDPC: soft bits against closed forms, rate matching, the check, and never beyond capacity."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edge_server.study.semantic.harq import HarqCode, send, soft_bits
from edge_server.study.semantic.outage import Air, ideal

BITS = 48


@pytest.fixture(scope="module")
def code() -> HarqCode:
    return HarqCode(BITS)


def payload(count: int, bits: int = BITS, seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 2, (count, bits)).astype(np.float32))


def test_chase_combining_has_the_sum_of_snrs() -> None:
    rng = np.random.default_rng(1)
    snrs = (0.3, 0.1, 1.2)
    zeros = np.zeros((1, 200_000), np.float32)
    summed = np.sum([soft_bits(zeros, np.full(zeros.shape, snr), rng) for snr in snrs], axis=0)
    total = sum(snrs)
    # LLRs of one reception at SNR g: mean -2 g of a 0, variance 4 g.
    assert summed.mean() == pytest.approx(-2 * total, rel=0.01)
    assert summed.var() == pytest.approx(4 * total, rel=0.01)
    ones = soft_bits(zeros + 1, np.full(zeros.shape, 1.0), rng)
    assert ones.mean() == pytest.approx(2.0, rel=0.01)


def test_rounds_read_on_in_the_buffer_and_begin_anew_at_its_end(code: HarqCode) -> None:
    assert code.length == 5 * (BITS + 16)
    uses = 100
    read = np.concatenate([code.sent(round_, uses) for round_ in range(4)])
    np.testing.assert_array_equal(read, np.arange(800) % 320)
    # Nothing comes twice before all came once.
    assert len(set(read[:320].tolist())) == 320


def test_what_is_received_of_a_bit_adds_up_over_rounds_and_within_one(code: HarqCode) -> None:
    words = payload(3)
    uses = code.length  # a burst holds the buffer twice
    met = np.full((3, 2, 2), 1e4)
    seen: list[torch.Tensor] = []

    class Listening(HarqCode):
        def decode(self, llr_NB: torch.Tensor) -> tuple[torch.Tensor, np.ndarray]:
            seen.append(llr_NB.clone())
            soft, fits = super().decode(llr_NB)
            return soft, np.zeros_like(fits)

    got = send(Listening(BITS), words, met, uses, np.random.default_rng(1))
    assert got.rounds_N.tolist() == [2, 2, 2]
    sign = 2 * code.encode(words) - 1
    for round_, buffer in enumerate(seen, start=1):
        torch.testing.assert_close(buffer / (4 * round_ * 1e4), sign, atol=0.05, rtol=0)


@pytest.mark.parametrize("crc", [6, 11])
def test_a_wrong_word_passes_the_check_as_rarely_as_its_bits_say(crc: int) -> None:
    checked = HarqCode(BITS, crc=crc)
    count = 60_000
    passed = checked.passes(payload(count, BITS + crc)).mean()
    expected = 2.0**-crc
    assert passed == pytest.approx(expected, abs=4 * (expected / count) ** 0.5)


def test_a_good_burst_is_enough_and_hands_over_the_payload(code: HarqCode) -> None:
    words = payload(20)
    got = send(code, words, np.full((20, 4, 2), 10.0), 64, np.random.default_rng(2))
    assert got.through_N.all()
    assert (got.rounds_N == 1).all()
    assert torch.equal((got.llr_NK > 0).float(), words)


def test_without_a_signal_nothing_passes_and_all_rounds_are_sent(code: HarqCode) -> None:
    got = send(code, payload(50), np.full((50, 3, 2), 1e-4), 32, np.random.default_rng(3))
    assert not got.through_N.any()
    assert (got.rounds_N == 3).all()


@pytest.mark.parametrize("uses", [48, 400])
def test_the_code_is_near_the_ideal_one_and_never_better(code: HarqCode, uses: int) -> None:
    """Over fading, in parity that is new (48 uses) and in repetition at rates down to 1/50 (400 uses)."""
    air = Air(snr_db=0.0 if uses == 48 else -10.0)
    met = air.meet(200, seed=5)
    got = send(code, payload(200), met, uses, np.random.default_rng(4))
    best = ideal(met, uses, BITS)
    assert got.rounds_N.mean() >= best.rounds_N.mean()
    behind = ideal(met, uses, BITS + 16, gap_db=3.0)
    assert got.rounds_N.mean() <= behind.rounds_N.mean()
    assert got.through_N.mean() >= behind.through_N.mean() - 0.03


def test_at_a_rate_below_a_fiftieth_there_is_still_something_through(code: HarqCode) -> None:
    """64 bits in 3200 coded bits: 1/50, ten receptions of each; 3 dB above capacity."""
    met = np.full((40, 1, 2), 10**-1.25)
    got = send(code, payload(40), met, 1600, np.random.default_rng(6))
    assert got.through_N.mean() > 0.9
