from __future__ import annotations

import math

import pytest
import torch

from edge_server.training.losses import info_nce


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
