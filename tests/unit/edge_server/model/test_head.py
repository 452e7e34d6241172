from __future__ import annotations

import pytest
import torch

from device_agent.channel import to_symbols
from edge_server.model.config import TOKEN_LENGTHS, HeadConfig, SelectionName
from edge_server.model.head import TextHead, TransmitterHead, normalise_power
from edge_server.model.selection import (
    LinspaceSelection,
    NestedQueries,
    WindowPooling,
    build_selection,
    linspace_matrix,
    pooling_matrix,
)


@pytest.mark.parametrize("length", TOKEN_LENGTHS)
@pytest.mark.parametrize("patches", [96, 120, 50])
def test_pooling_windows_cover_every_patch_alike(patches: int, length: int) -> None:
    matrix = pooling_matrix(patches, length)
    torch.testing.assert_close(matrix.sum(1), torch.ones(length))
    torch.testing.assert_close(matrix.sum(0), torch.full((patches,), length / patches))


def test_pooling_equals_reshape_where_the_length_is_a_factor() -> None:
    x = torch.randn(2, 120, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(WindowPooling(120)(x, 8), x.reshape(2, 8, 15, 5).mean(2))


@pytest.mark.parametrize("length", TOKEN_LENGTHS)
def test_linspace_picks_tokens_from_first_to_last(length: int) -> None:
    matrix = linspace_matrix(60, length)
    picks = matrix.argmax(1).tolist()
    assert matrix.sum(1).tolist() == [1.0] * length
    assert len(set(picks)) == length
    assert picks[0] == 0
    assert length == 1 or picks[-1] == 59
    x = torch.randn(2, 60, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(LinspaceSelection(60)(x, length), x[:, picks])


def test_queries_are_nested() -> None:
    torch.manual_seed(0)
    selection, x = NestedQueries(16).eval(), torch.randn(2, 60, 16)
    longest = selection(x, 32)
    for length in TOKEN_LENGTHS:
        torch.testing.assert_close(selection(x, length), longest[:, :length])


@pytest.mark.parametrize("length", TOKEN_LENGTHS)
@pytest.mark.parametrize("selection", ["window", "linspace", "queries", "nested"])
def test_a_length_in_a_tensor_selects_as_the_number_does(selection: SelectionName, length: int) -> None:
    torch.manual_seed(0)
    select, x = build_selection(selection, 96, 16), torch.randn(2, 96, 16)
    assert torch.equal(select(x, torch.tensor([length])), select(x, length))


@pytest.mark.parametrize("length", TOKEN_LENGTHS)
@pytest.mark.parametrize("selection", ["window", "linspace", "queries", "nested"])
def test_every_codeword_has_unit_energy_per_complex_symbol(selection: SelectionName, length: int) -> None:
    torch.manual_seed(0)
    head = TransmitterHead(HeadConfig(selection), 96, 16, 32)
    sent = head(7 * torch.randn(3, 96, 16), length)
    assert sent.shape == (3, length, 32)
    symbols = to_symbols(sent)
    torch.testing.assert_close(symbols.abs().square().mean((1, 2)), torch.ones(3), atol=1e-4, rtol=0)


def test_a_prefix_of_a_nested_block_is_the_shorter_block_to_the_bit() -> None:
    torch.manual_seed(0)
    head, features = TransmitterHead(HeadConfig("nested"), 96, 16, 32).eval(), torch.randn(2, 96, 16)
    longest = head(features, 32)
    for length in TOKEN_LENGTHS:
        assert torch.equal(head(features, length), longest[:, :length])
        assert torch.equal(head(features, torch.tensor([length])), longest[:, :length])
    torch.testing.assert_close(longest.square().mean(2), torch.full((2, 32), 0.5), atol=1e-4, rtol=0)
    told_the_length = TransmitterHead(HeadConfig("queries"), 96, 16, 32).eval()
    assert not torch.allclose(told_the_length(features, 4), told_the_length(features, 16)[:, :4])


def test_text_goes_with_unit_energy_too() -> None:
    torch.manual_seed(0)
    sent = TextHead(16, 8)(torch.randn(2, 5, 16))
    torch.testing.assert_close(sent.square().mean((1, 2)), torch.full((2,), 0.5), atol=1e-4, rtol=0)


def test_nothing_to_send_is_not_infinite() -> None:
    assert torch.isfinite(normalise_power(torch.zeros(1, 4, 8))).all()


def test_padding_neither_sends_nor_counts() -> None:
    torch.manual_seed(0)
    x, used = torch.randn(2, 5, 8), torch.tensor([[1.0, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    sent = normalise_power(x, used)
    assert sent[1, 3:].abs().sum() == 0
    torch.testing.assert_close(sent[1, :3], normalise_power(x[1:, :3])[0])
    torch.testing.assert_close(sent[0], normalise_power(x[:1])[0])
