"""Fewer reals, fewer bits: what arrives is close, closer the more is sent, and what is promised in bits."""

from __future__ import annotations

import pytest
import torch

from edge_server.model.split.compression import Blocks, Pca, ResidualVq, normalised


@pytest.fixture
def tokens() -> torch.Tensor:
    """Of 64 reals, that differ in eight directions and a little in all others."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(8, 64, generator=generator)
    return torch.randn(400, 8, generator=generator) @ directions + 0.01 * torch.randn(
        400, 64, generator=generator
    )


def error(arrived: torch.Tensor, sent: torch.Tensor) -> float:
    """Relative, in power."""
    return float((arrived - sent).square().mean() / sent.square().mean())


def test_pca_finds_the_directions_in_which_tokens_differ(tokens: torch.Tensor) -> None:
    fitted, others = normalised(tokens[:200])[0], tokens[200:]
    errors = [error(Pca.fit(fitted, rank)(others), others) for rank in (2, 4, 8, 64)]
    assert errors == sorted(errors, reverse=True)
    assert errors[1] > 0.1
    assert errors[2] < 1e-3
    assert errors[3] < 1e-10
    assert Pca.fit(fitted, 8).bits() == 256
    # No more directions than there are tokens to tell them.
    assert len(Pca.fit(fitted[:5], 8).basis_RE) == 5


def test_each_stage_of_codes_takes_what_the_ones_before_left_over(tokens: torch.Tensor) -> None:
    fitted, others = normalised(tokens[:200])[0], tokens[200:]
    coded = [ResidualVq.fit(fitted, stages, 64) for stages in (1, 2, 4)]
    errors = [error(each(others), others) for each in coded]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.5 * errors[0] < 0.5
    assert [each.bits() for each in coded] == [6, 12, 24]
    codes = coded[1].encode(normalised(others)[0])
    assert codes.shape == (200, 2)
    assert int(codes.max()) < 64
    again = ResidualVq.fit(fitted, 2, 64)
    assert torch.equal(again.books[1], coded[1].books[1])


def test_a_scale_for_each_block_costs_what_it_says_and_keeps_small_values_beside_large_ones() -> None:
    x_TE = torch.ones(2, 40)
    x_TE[:, 32:] = 1000.0
    arrived = Blocks(4)(x_TE)
    assert arrived.shape == (2, 40)
    assert error(arrived[:, :32], x_TE[:, :32]) < 1e-3
    assert Blocks(4).bits(40) == 40 * 4 + 2 * 16
    assert torch.equal(Blocks(8)(torch.zeros(1, 5)), torch.zeros(1, 5))
