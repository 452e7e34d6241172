"""What goes wrong in a co-training of the study: devices killed, gradients lost, one late, one that lies."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from device_agent.cotrain.examples import Asked, Examples
from device_agent.cotrain.learner import Learner
from protos.tokenlink.v1 import cotrain_pb2 as cpb


@dataclass(frozen=True)
class Faults:
    """What goes wrong; the first devices are killed and lie, the last one is late.

    Attributes:
        killed: share of devices that are killed in the middle, and come back.
        lost: share of gradients that are lost.
        straggler_s: by which one device is late with every batch [s].
        flipped: devices whose answers are wrong.
    """

    killed: float = 0.0
    lost: float = 0.0
    straggler_s: float = 0.0
    flipped: int = 0


def with_wrong_answers(examples: Examples, rng: np.random.Generator) -> Examples:
    """Answers of other questions in place of the right ones."""
    answers = [asked.answer for clip in examples.train for asked in clip.asked]
    others = {answer: [other for other in answers if other != answer] for answer in answers}
    train = tuple(
        replace(
            clip,
            asked=tuple(
                Asked(q.question, others[q.answer][int(rng.integers(len(others[q.answer])))])
                for q in clip.asked
            ),
        )
        for clip in examples.train
    )
    return replace(examples, train=train)


def lose(one: Learner, share: float, rng: np.random.Generator) -> None:
    """Have a device get only some of its gradients."""
    usual = one.apply

    def apply(gradient: cpb.BatchGradient) -> bool:
        return False if rng.random() < share else usual(gradient)

    one.apply = apply  # type: ignore[method-assign]


def count(one: Learner, applied: Counter[int]) -> None:
    """Count how often a device moves its heads for each step, over all its lives."""
    usual = one.apply

    def apply(gradient: cpb.BatchGradient) -> bool:
        moved = usual(gradient)
        applied[gradient.step] += moved
        return moved

    one.apply = apply  # type: ignore[method-assign]


def delay(one: Learner, by_s: float) -> None:
    """Have a device be late with every batch [s]."""
    usual = one.batch

    def batch(step: cpb.Step) -> cpb.Batch:
        time.sleep(by_s)
        return usual(step)

    one.batch = batch  # type: ignore[method-assign]
