"""A progressive uplink: few tokens first, and more only of a question whose answer is not sure.

The first length is sent; where the answer's confidence is below a threshold the question is asked again
with the next, until the last. A round is a question of its own, over the channel as it is then: what came
before is not combined with it. What all rounds took is what the answer cost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from device_agent.outcome import Cost, Outcome

Delta = Callable[[str], None]


@dataclass(frozen=True)
class Ladder:
    """How much is sent, and when it is enough.

    Attributes:
        lengths: tokens per modality of each round, rising.
        until: confidence from which no more is sent, from 0 to 1.
    """

    lengths: tuple[int, ...]
    until: float

    def up_to(self, most: int) -> Ladder:
        """The rounds that may be sent; the first even where that is too long, to be refused by name."""
        return replace(self, lengths=tuple(n for n in self.lengths if n <= most) or self.lengths[:1])


async def climb(
    ladder: Ladder, ask: Callable[[int, Delta | None], Awaitable[Outcome]], on_delta: Delta | None
) -> Outcome:
    """Ask round by round until the answer is sure.

    Args:
        ladder: of at least one round.
        ask: asks once, with a token length, and told each new piece of the answer.
        on_delta: called with each new piece of the last answer; of those before nobody hears.
    """
    outcomes: list[Outcome] = []
    for length in ladder.lengths[:-1]:
        outcomes.append(await ask(length, None))
        if is_sure(outcomes[-1], ladder.until):
            if on_delta is not None:
                on_delta(outcomes[-1].text)
            return together(outcomes)
    outcomes.append(await ask(ladder.lengths[-1], on_delta))
    return together(outcomes)


def is_sure(outcome: Outcome, until: float) -> bool:
    """Whether an answer is enough: by its calibrated confidence, or where there is none, its probability."""
    known = outcome.probability if outcome.confidence is None else outcome.confidence
    return not outcome.abstained and known >= until


def together(outcomes: Sequence[Outcome]) -> Outcome:
    """The last answer, at the cost of all of them."""
    costs = [outcome.cost for outcome in outcomes]
    return replace(
        outcomes[-1],
        cost=Cost(
            channel_uses=sum(cost.channel_uses for cost in costs),
            bytes_on_wire=sum(cost.bytes_on_wire for cost in costs),
            airtime_s=sum(cost.airtime_s for cost in costs),
            encode_s=sum(cost.encode_s for cost in costs),
            round_trip_s=sum(cost.round_trip_s for cost in costs),
        ),
        queue_s=sum(outcome.queue_s for outcome in outcomes),
        compute_s=sum(outcome.compute_s for outcome in outcomes),
        tries=sum(outcome.tries for outcome in outcomes),
        rounds=tuple(outcome.token_length for outcome in outcomes),
    )
