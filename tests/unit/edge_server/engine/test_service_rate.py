from __future__ import annotations

import pytest

from edge_server.engine.request import Completion
from edge_server.engine.service_rate import ServiceRate


def answers(count: int, compute_s: float = 1.0) -> list[Completion]:
    return [Completion("yes", 1.0, 10, 1, 0.0, compute_s, "stop")] * count


def test_the_pace_of_full_batches_and_stragglers_is_time_over_answers() -> None:
    pace = ServiceRate(0.0)
    now_s = 0.0
    for _ in range(100):
        for count in (16, 1):
            now_s += 0.1
            pace.ended(answers(count), now_s)
    # 17 answers in 0.2 s, whichever group came last.
    assert pace.s_per_question == pytest.approx(0.2 / 17, rel=0.1)


def test_an_idle_spell_is_no_pace() -> None:
    pace = ServiceRate(0.0)
    for hour in range(1, 200):
        pace.ended(answers(1, compute_s=0.03), 3600.0 * hour)
    assert pace.s_per_question == pytest.approx(0.03, rel=0.01)


def test_a_new_pace_is_learnt() -> None:
    pace = ServiceRate(0.0)
    for step in range(100):
        pace.ended(answers(8), 0.08 * (step + 1))
    for step in range(100):
        pace.ended(answers(8), 8.0 + 0.8 * (step + 1))
    assert pace.s_per_question == pytest.approx(0.1, rel=0.05)
