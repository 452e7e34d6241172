"""The progressive uplink: more is sent only while the answer is not sure, at the cost of all rounds."""

from __future__ import annotations

import pytest

from device_agent.outcome import Cost, Outcome
from device_agent.progressive import Ladder, climb, is_sure


def outcome(length: int, confidence: float | None, *, abstained: bool = False) -> Outcome:
    return Outcome(
        text=f"answer of {length}",
        probability=0.8,
        finish_reason="stop",
        token_length=length,
        confidence=confidence,
        abstained=abstained,
        cost=Cost(16 * length, 100, 0.01 * length, 0.02, 0.05),
        queue_s=0.001,
        compute_s=0.002,
    )


class Asked:
    """Answers by length, and what was asked."""

    def __init__(self, confidences: dict[int, float | None]) -> None:
        self.confidences = confidences
        self.lengths: list[int] = []
        self.heard: list[str] = []

    async def __call__(self, length: int, on_delta: object) -> Outcome:
        self.lengths.append(length)
        found = outcome(length, self.confidences[length])
        if on_delta is not None:
            assert on_delta == self.heard.append
            self.heard.append(found.text)
        return found


@pytest.mark.parametrize(
    ("confidences", "sent"),
    [
        ({2: 0.95, 8: 0.0, 16: 0.0}, (2,)),
        ({2: 0.89, 8: 0.9, 16: 0.0}, (2, 8)),
        ({2: 0.1, 8: 0.2, 16: 0.3}, (2, 8, 16)),
        # Not calibrated: its probability, which is 0.8 here.
        ({2: None, 8: None, 16: None}, (2, 8, 16)),
    ],
)
async def test_no_more_is_sent_than_it_takes(
    confidences: dict[int, float | None], sent: tuple[int, ...]
) -> None:
    asked = Asked(confidences)
    found = await climb(Ladder((2, 8, 16), 0.9), asked, asked.heard.append)
    assert tuple(asked.lengths) == found.rounds == sent
    assert found.text == f"answer of {sent[-1]}"
    assert found.token_length == sent[-1]
    assert asked.heard == [found.text], "of the rounds before nobody hears"
    assert found.cost.channel_uses == 16 * sum(sent)
    assert found.cost.airtime_s == pytest.approx(0.01 * sum(sent))
    assert found.cost.bytes_on_wire == 100 * len(sent)
    assert found.cost.round_trip_s == pytest.approx(0.05 * len(sent))
    assert found.tries == len(sent)


async def test_nobody_need_listen() -> None:
    found = await climb(Ladder((1, 4), 0.5), Asked({1: 0.6, 4: 0.0}), None)
    assert found.rounds == (1,)


def test_an_answer_that_was_held_back_is_not_sure_whatever_its_guess_is() -> None:
    assert is_sure(outcome(1, 0.95), 0.9)
    assert not is_sure(outcome(1, 0.95, abstained=True), 0.9)


def test_a_ladder_ends_at_what_is_granted() -> None:
    ladder = Ladder((2, 8, 16), 0.9)
    assert ladder.up_to(16) == ladder
    assert ladder.up_to(9).lengths == (2, 8)
    assert ladder.up_to(1).lengths == (2,), "which the agent refuses by name"
