"""Ladders of token lengths: what they send and lose, by hand; and the one that is chosen."""

from __future__ import annotations

import numpy as np
import pytest

from device_agent.progressive import Ladder
from edge_server.evaluation.progressive import Costs, Rounds, best_ladder

#: Four questions at three lengths: the first is sure at once, the last never.
ROUNDS = Rounds(
    (1, 4, 16),
    np.array([[0.95, 0.6, 0.5, 0.4], [0.99, 0.92, 0.7, 0.5], [0.99, 0.99, 0.95, 0.6]]),
    np.array([[1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]]),
)


TOKENS = Costs(1.0, request=0.0)


def test_a_ladder_stops_where_an_answer_is_sure() -> None:
    climbed = ROUNDS.climb(Ladder((1, 4, 16), 0.9), TOKENS)
    assert climbed.rounds == (0.25, 0.25, 0.5)
    assert climbed.channel_uses == pytest.approx((1 + 5 + 21 + 21) / 4)
    assert climbed.accuracy == 0.75
    two = ROUNDS.climb(Ladder((4, 16), 0.9), TOKENS)
    assert two.channel_uses == pytest.approx((4 + 4 + 20 + 20) / 4)
    assert ROUNDS.climb(Ladder((16,), 1.0), TOKENS).accuracy == ROUNDS.one_shot(16) == 0.75


def test_the_ladder_that_is_chosen_sends_least_of_those_that_lose_little() -> None:
    # 4, 4, 20 and 20 tokens; from 1 it would be 1, 17, 17 and 17, as what is less sure is wrong there.
    assert best_ladder([ROUNDS], 16, 0.0, TOKENS) == Ladder((4, 16), 0.71)
    careless = best_ladder([ROUNDS], 16, 0.5, TOKENS)
    assert ROUNDS.climb(careless, TOKENS).channel_uses < 8.0
    # Where nothing short is ever sure, nothing short is sent.
    never = Rounds(ROUNDS.lengths, np.zeros_like(ROUNDS.confidence_LN), ROUNDS.right_LN)
    assert best_ladder([never], 16, 0.0, TOKENS).lengths == (16,)


def test_a_nested_round_sends_what_is_new_alone_and_every_request_costs() -> None:
    whole, nested = Costs(32.0, request=72.0), Costs(32.0, nested=True, request=72.0)
    assert whole.spent((2, 8, 16)).tolist() == [64.0, 32.0 * 10 + 72, 32.0 * 26 + 144]
    assert nested.spent((2, 8, 16)).tolist() == [64.0, 32.0 * 8 + 72, 32.0 * 16 + 144]
    ladder = Ladder((1, 4, 16), 0.9)
    assert ROUNDS.climb(ladder, nested).channel_uses < ROUNDS.climb(ladder, whole).channel_uses


def test_only_the_rungs_that_are_given_are_tried() -> None:
    assert best_ladder([ROUNDS], 16, 0.5, TOKENS, [(1, 4)]).lengths == (1, 4, 16)
