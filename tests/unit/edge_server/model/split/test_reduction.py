"""Fewer feature tokens of a picture, by each method, at each token length."""

from __future__ import annotations

import pytest
import torch

from edge_server.model.split.reduction import REDUCERS, TokenReduction, default_lengths, merge, window

GRID = (4, 6)


def tokens(seed: int = 0) -> torch.Tensor:
    return torch.randn(24, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", REDUCERS)
def test_every_length_is_what_its_method_gives(name: str) -> None:
    lengths = default_lengths(24)
    reduction = TokenReduction(REDUCERS[name], GRID, lengths)
    for length in lengths:
        made = reduction(tokens(), torch.tensor([length]))
        assert made.shape == (length, 8)
        expected = tokens() if length == 24 else REDUCERS[name](tokens(), GRID, length)
        torch.testing.assert_close(made, expected)


def test_methods_that_pick_keep_tokens_as_they_were_in_their_order() -> None:
    for name in ("salient", "diverse", "random"):
        kept = REDUCERS[name](tokens(), GRID, 6)
        places = [int((tokens() == each).all(dim=1).nonzero()[0]) for each in kept]
        assert places == sorted(set(places))


def test_windows_are_averages_of_neighbours_in_both_directions() -> None:
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(6.0), indexing="ij")
    places = torch.stack([rows.flatten(), columns.flatten()], dim=1)
    expected = torch.tensor([[0.5, 1.0], [0.5, 4.0], [2.5, 1.0], [2.5, 4.0]])
    torch.testing.assert_close(window(places, GRID, 4), expected)


def test_what_is_alike_is_merged_and_counts_by_what_it_stands_for() -> None:
    one, other = torch.eye(2)
    x_TE = torch.stack([one, one, one, other])
    torch.testing.assert_close(merge(x_TE, (1, 4), 2), torch.stack([one, other]))
    # Nothing is lost but detail: the weighted average of all stays.
    made = merge(tokens().abs(), GRID, 1)
    torch.testing.assert_close(made[0], tokens().abs().mean(dim=0))


def test_lengths_go_down_to_a_sixteenth() -> None:
    assert default_lengths(64) == (4, 8, 16, 32, 64)
    assert default_lengths(1) == (1,)
