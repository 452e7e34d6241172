"""Descriptions: bits and back, what is told of them, and what soft bits let expect."""

from __future__ import annotations

import math

import pytest
import torch

from edge_server.study.semantic.description import CODES, Description, Form, fit_books

FORM = Form(4, 2)


@pytest.fixture(scope="module")
def sent() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {slot: torch.randn(400, 4, 8, generator=generator) for slot in ("visual", "audio")}


@pytest.fixture(scope="module")
def description(sent: dict[str, torch.Tensor]) -> Description:
    return Description.fit(sent, FORM, fit_books(sent, 3, seed=0))


def test_bits_hold_the_codes_of_both_modalities(
    sent: dict[str, torch.Tensor], description: Description
) -> None:
    bits = description.to_bits(sent)
    assert bits.shape == (400, description.bits) == (400, 2 * 4 * 2 * 6)
    got = description.restore(bits)
    for slot, x in sent.items():
        flat = description.books[slot].decode(description.codes(sent)[slot].reshape(-1, 2))
        torch.testing.assert_close(got.x[slot], flat.reshape(x.shape))
        # Of what the books were fitted to, the error is the distortion, and the receiver is told 1/D - 1.
        distortion = float((got.x[slot] - x).square().mean() / x.square().mean())
        assert distortion == pytest.approx(description.distortion[slot], rel=1e-4)
        assert float(got.told_db[slot][0, 0]) == pytest.approx(10 * math.log10(1 / distortion - 1), abs=1e-3)


def test_sure_bits_let_expect_what_decided_ones_restore(
    sent: dict[str, torch.Tensor], description: Description
) -> None:
    bits = description.to_bits(sent)
    decided, expected = description.restore(bits), description.expect((2 * bits - 1) * 60.0)
    for slot in sent:
        torch.testing.assert_close(expected.x[slot], decided.x[slot], atol=1e-5, rtol=0)
        torch.testing.assert_close(expected.told_db[slot], decided.told_db[slot], atol=1e-3, rtol=0)


def test_bits_that_say_nothing_let_expect_the_mean_code_and_tell_that_it_is_noise(
    sent: dict[str, torch.Tensor], description: Description
) -> None:
    got = description.expect(torch.zeros(2, description.bits))
    for slot in sent:
        books = description.books[slot].books
        mean = sum(book.mean(dim=0) for book in books)
        torch.testing.assert_close(got.x[slot][0, 0], mean, atol=1e-5, rtol=0)
        spread = sum(float((book - book.mean(dim=0)).square().mean()) for book in books)
        left = spread / description.power[slot] + description.distortion[slot]
        told = -30.0 if left >= 1 else 10 * math.log10(1 / left - 1)
        assert float(got.told_db[slot][0, 0]) == pytest.approx(told, abs=1e-2)
        assert float(got.told_db[slot][0, 0]) < float(description.restore(
            torch.zeros(1, description.bits)).told_db[slot][0, 0])  # fmt: skip


def test_one_unsure_bit_lets_expect_the_middle_of_two_codes(description: Description) -> None:
    llr = torch.full((1, description.bits), -60.0)
    llr[0, 5] = 0.0  # the last bit of the first code of the first slot: codes 0 and 1
    slot = next(iter(description.books))
    first, second = description.books[slot].books
    got = description.expect(llr).x[slot][0, 0]
    torch.testing.assert_close(got, (first[0] + first[1]) / 2 + second[0], atol=1e-5, rtol=0)


def test_entropy_is_at_most_the_bits_and_less_where_codes_are_not_as_likely(
    sent: dict[str, torch.Tensor], description: Description
) -> None:
    assert description.entropy_bits(sent) <= description.bits
    still = {slot: x[:1].expand(400, -1, -1) for slot, x in sent.items()}
    constant = Description.fit(still, FORM, description.books)
    per_code = math.log2((400 + CODES / 2) / 400.5)
    assert constant.entropy_bits(still) == pytest.approx(2 * 4 * 2 * per_code, rel=1e-3)
