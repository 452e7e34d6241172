from __future__ import annotations

import math

import pytest
import torch

from edge_server.training.losses import DICTATION_TEMPERATURE, dictation, info_nce


def test_infonce_of_embeddings_that_tell_nothing_is_log_batch() -> None:
    same = torch.ones(8, 4)
    assert info_nce(same, same, 0.07).item() == pytest.approx(math.log(8), abs=1e-5)


def test_infonce_of_perfect_pairs_vanishes_and_of_swapped_pairs_does_not() -> None:
    pairs = torch.eye(8)
    assert info_nce(pairs, 3 * pairs, 0.07).item() < 1e-4
    assert info_nce(pairs, pairs.roll(1, 0), 0.07).item() == pytest.approx(1 / 0.07, rel=0.01)


def test_infonce_closed_form_for_two_pairs() -> None:
    a = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    expected = math.log(1 + math.exp(-1 / 0.5))
    assert info_nce(a, a, 0.5).item() == pytest.approx(expected, rel=1e-5)


def test_dictation_of_the_right_words_costs_next_to_nothing() -> None:
    vocabulary = torch.randn(50, 16, generator=torch.Generator().manual_seed(0))
    words = torch.arange(12).reshape(3, 4)
    loss, right = dictation(vocabulary[words], words, vocabulary)
    assert loss.item() < 0.01
    assert right == 1.0
    loss, right = dictation(vocabulary[words], words + 1, vocabulary)
    assert loss.item() > 1.0
    assert right == 0.0


def test_dictation_closed_form_between_two_words() -> None:
    vocabulary = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # mean square norm 1, squared distance 2
    said = torch.tensor([[[0.5, 0.5]]])  # 1/2 from either
    loss, _ = dictation(said, torch.tensor([[1]]), vocabulary)
    assert loss.item() == pytest.approx(math.log(2) + 0.5, rel=1e-5)
    said = torch.tensor([[[0.0, 1.0]]])
    loss, _ = dictation(said, torch.tensor([[1]]), vocabulary)
    assert loss.item() == pytest.approx(math.log1p(math.exp(-2 / DICTATION_TEMPERATURE)), abs=1e-6)
