"""Test questions asked of what a co-training made: in each world, with the head of its device."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from device_agent.channel import Channel, ChannelConfig
from edge_server.cotrain.batches import DeviceBatch, SlotTokens
from edge_server.cotrain.model_half import ModelHalf
from edge_server.model.head_gradient import WEIGHTS
from edge_server.study.cotrain.world import UNSHIFTED, Unseen

Heads = Mapping[str, Mapping[str, npt.NDArray[np.float32]]]
"""Weights of a device's heads, by slot and name."""
_TEST_BATCH = 32


def examine(
    half: ModelHalf,
    heads: Heads,
    test: Unseen,
    world: str,
    channel: ChannelConfig,
    token_length: int,
    *,
    before: bool = False,
) -> float:
    """Share of a world's test questions that are answered right."""
    right = questions = 0
    features = test.features[world]
    for begin in range(0, len(test.asked), _TEST_BATCH):
        rows = [row for row in range(begin, min(begin + _TEST_BATCH, len(test.asked))) if test.asked[row]]
        if not rows:
            continue
        slots = {}
        links = [Channel(channel, np.random.default_rng([3, row])) for row in rows]
        for slot in half.link.slots:
            given = {name: torch.from_numpy(heads[slot][name]) for name in WEIGHTS} if slot in heads else {}
            with torch.inference_mode():
                sent = torch.func.functional_call(
                    half.link.heads[slot], given, (torch.from_numpy(features[slot][rows]), token_length)
                ).numpy()
            arrived = [each.transmit(x_TC) for each, x_TC in zip(links, sent, strict=True)]
            slots[slot] = SlotTokens(
                tuple(range(len(rows))),
                np.stack([each.x_TC for each in arrived]),
                np.stack([each.told_db() for each in arrived]),
            )
        batch = DeviceBatch(slots, [test.asked[row] for row in rows], 0)
        found = half.examine(batch, before=before)
        right, questions = right + found.right, questions + found.questions
    return right / max(1, questions)


def accuracies(
    half: ModelHalf, heads: Mapping[str, Heads], test: Unseen, channel: ChannelConfig, token_length: int
) -> dict[str, dict[str, float]]:
    """Of each device's world and of the unshifted one, with the device's own head."""
    return {
        name: {
            "shifted": examine(half, own, test, name, channel, token_length),
            "unshifted": examine(half, own, test, UNSHIFTED, channel, token_length),
        }
        for name, own in heads.items()
    }
