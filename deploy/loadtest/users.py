"""Users of a group: each with an SNR trace, token lengths and think times of its own."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from deploy.loadtest.profile import Group
from deploy.loadtest.questions import Bundle, demo_questions, random_block, template_of
from deploy.loadtest.target import Question, Template
from device_agent.channel import SnrTrace
from protos.tokenlink.v1 import tokenlink_pb2 as pb

_TRACE_STEPS = 600
_TRACE_STEP_SHARE = 0.15
"""Standard deviation of one step of an SNR trace, as a part of the group's range."""
_SNR_STEP_DB = 5.0
"""Blocks are made for SNRs so far apart: a group's questions are made before they are needed."""


def snr_trace(group: Group, seed: int, user: int) -> SnrTrace:
    """One user's SNR over time: a random walk within the group's range, reflected at its ends."""
    rng = np.random.default_rng([seed, user, 1])
    low, high = group.snr_db
    spread = max(high - low, 0.0)
    walk = rng.uniform(0.0, spread) + np.cumsum(rng.normal(0.0, _TRACE_STEP_SHARE * spread, _TRACE_STEPS))
    folded = low + np.abs((walk + spread) % (2 * spread) - spread) if spread else np.full(_TRACE_STEPS, low)
    times = np.arange(_TRACE_STEPS) * group.snr_step_s
    return SnrTrace(tuple(map(float, times)), tuple(map(float, folded)))


class Users:
    """All users of one group.

    Args:
        group: what they are like.
        bundle: that the server answers for.
        first: number of the first one.
        seed: of everything random.
        clock: monotonic seconds.

    Raises:
        ValueError: the bundle was not trained for one of the group's token lengths.
    """

    def __init__(
        self,
        group: Group,
        bundle: Bundle,
        first: int,
        seed: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        unknown = set(group.token_lengths) - set(bundle.token_lengths)
        if unknown:
            raise ValueError(
                f"group {group.name!r}: token_lengths has {sorted(unknown)}; the bundle allows "
                f"{', '.join(map(str, bundle.token_lengths))}"
            )
        self.group = group
        self.numbers = range(first, first + group.count)
        self._bundle = bundle
        self._clock = clock
        self._began_s = clock()
        self._rng = {user: np.random.default_rng([seed, user, 0]) for user in self.numbers}
        self._traces = {user: snr_trace(group, seed, user) for user in self.numbers}
        self._lengths = sorted(group.token_lengths)
        rows = [(row["question"], row["clip"]) for row in demo_questions()]
        clips = [clip for _, clip in rows]
        self._asked = [(text, clips[i % len(clips)]) for i, text in enumerate(group.questions)] or rows
        self._block_rng = np.random.default_rng([seed, first, 2])
        self._blocks: dict[tuple[str, int, float], pb.TokenPayload] = {}
        self._templates: dict[tuple[int, tuple[str, ...], int, float], Template] = {}

    def trace(self, user: int) -> SnrTrace:
        """A user's SNR over time."""
        return self._traces[user]

    def draw(self, user: int) -> Question:
        """A user's next question, as its link is just now."""
        rng, group = self._rng[user], self.group
        snr_db = self._traces[user].at(self._clock() - self._began_s)
        low, high = group.snr_db
        quality = (snr_db - low) / (high - low) if high > low else 1.0
        place = min(int((1.0 - quality) * len(self._lengths)), len(self._lengths) - 1)
        row = int(rng.integers(len(self._asked)))
        modalities = group.modalities[int(rng.integers(len(group.modalities)))]
        step_db = round(snr_db / _SNR_STEP_DB) * _SNR_STEP_DB
        return self._template(row, modalities, self._lengths[place], step_db).ask()

    def think_s(self, user: int) -> float:
        """How long a user thinks now [s]."""
        return float(self._rng[user].uniform(*self.group.think_s))

    def _template(self, row: int, modalities: tuple[str, ...], token_length: int, snr_db: float) -> Template:
        key = (row, modalities, token_length, snr_db)
        if key not in self._templates:
            text, clip = self._asked[row]
            self._templates[key] = template_of(
                self._bundle,
                text,
                [self._block(modality, token_length, snr_db) for modality in modalities],
                clip=clip,
                max_new_tokens=self.group.max_new_tokens,
                deadline_s=self.group.deadline_s,
            )
        return self._templates[key]

    def _block(self, modality: str, token_length: int, snr_db: float) -> pb.TokenPayload:
        key = (modality, token_length, snr_db)
        if key not in self._blocks:
            self._blocks[key] = random_block(
                self._block_rng, self._bundle.channel_dim, modality, token_length, snr_db
            )
        return self._blocks[key]
