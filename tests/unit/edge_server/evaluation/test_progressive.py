"""Ladders of token lengths: what they send and lose, by hand; and the one that is chosen."""

from __future__ import annotations

import numpy as np
import pytest

from device_agent.progressive import Ladder
from edge_server.evaluation.progressive import Rounds, best_ladder

#: Four questions at three lengths: the first is sure at once, the last never.
ROUNDS = Rounds(
    (1, 4, 16),
    np.array([[0.95, 0.6, 0.5, 0.4], [0.99, 0.92, 0.7, 0.5], [0.99, 0.99, 0.95, 0.6]]),
    np.array([[1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]]),
)


def test_a_ladder_stops_where_an_answer_is_sure() -> None:
    climbed = ROUNDS.climb(Ladder((1, 4, 16), 0.9))
    assert climbed.rounds == (0.25, 0.25, 0.5)
    assert climbed.tokens == pytest.approx((1 + 5 + 21 + 21) / 4)
    assert climbed.accuracy == 0.75
    two = ROUNDS.climb(Ladder((4, 16), 0.9))
    assert two.tokens == pytest.approx((4 + 4 + 20 + 20) / 4)
    assert ROUNDS.climb(Ladder((16,), 1.0)).accuracy == ROUNDS.one_shot(16) == 0.75


def test_the_ladder_that_is_chosen_sends_least_of_those_that_lose_little() -> None:
    # 4, 4, 20 and 20 tokens; from 1 it would be 1, 17, 17 and 17, as what is less sure is wrong there.
    assert best_ladder([ROUNDS], 16, 0.0) == Ladder((4, 16), 0.71)
    careless = best_ladder([ROUNDS], 16, 0.5)
    assert ROUNDS.climb(careless).tokens < 8.0
    # Where nothing short is ever sure, nothing short is sent.
    never = Rounds(ROUNDS.lengths, np.zeros_like(ROUNDS.confidence_LN), ROUNDS.right_LN)
    assert best_ladder([never], 16, 0.0).lengths == (16,)
