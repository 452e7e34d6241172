"""What devices are asked for: a step's batch, held-out examples, their heads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_server.cotrain.plan import Plan
from protos.tokenlink.v1 import cotrain_pb2 as cpb

_QUESTIONS_EXAMINED = 16
"""Of a held-out clip, at most."""


def training_step(plan: Plan, slots: Sequence[str], rate: float, step: int) -> cpb.Step:
    """What is asked of devices for a step; token lengths follow from seed and step.

    Args:
        plan: of the round.
        slots: that devices fill.
        rate: the edge's learning rate in this step.
        step: which.
    """
    rng = np.random.default_rng([plan.seed, step])
    return cpb.Step(
        step=step,
        purpose=cpb.PURPOSE_TRAIN,
        clips=plan.clips,
        questions=plan.questions,
        token_lengths={slot: int(rng.choice(plan.token_lengths)) for slot in slots},
        learning_rate=rate * plan.head_rate,
    )


def of_missed(message: cpb.Step, missed: int, most: int) -> cpb.Step:
    """What a device is asked for in a step that missed some before it: more clips, learned from faster.

    Args:
        message: what all are asked for.
        missed: steps since its last batch that counted.
        most: times the clips, at most.
    """
    times = min(1 + missed, most)
    if message.purpose != cpb.PURPOSE_TRAIN or message.wants_heads or times <= 1:
        return message
    more = cpb.Step()
    more.CopyFrom(message)
    more.clips *= times
    more.learning_rate *= times
    return more


def examination(plan: Plan, slots: Sequence[str], step: int, purpose: cpb.Purpose) -> cpb.Step:
    """Held-out examples, before or after the round; at the middle one of its token lengths."""
    lengths = sorted(plan.token_lengths)
    return cpb.Step(
        step=step,
        purpose=purpose,
        clips=plan.held_out,
        questions=_QUESTIONS_EXAMINED,
        token_lengths=dict.fromkeys(slots, lengths[len(lengths) // 2]),
    )


def for_heads(step: int) -> cpb.Step:
    """The heads as they are after a step."""
    return cpb.Step(step=step, purpose=cpb.PURPOSE_TRAIN, wants_heads=True)
