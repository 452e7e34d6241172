"""What everybody is asked: about the demo's clips, through the device's transmitters and an emulated channel.

Real tokens, so that every answer means something and can be compared. Two workloads:

    words      the benchmark's nine kinds of question: answers of one word
    captions   the same and, as the tenth kind, "Describe what happens.": answers of one word, and of thirty

Questions come in groups with one of each kind, so that every stretch of a run has the same mix.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from deploy.loadtest.questions import DEMO, demo_questions
from deploy.loadtest.target import Draw, Question, Template
from device_agent.bundle.bundle import load_bundle
from device_agent.channel import Channel, ChannelConfig
from device_agent.media.loading import clip_from_file
from device_agent.transmitter import Tokens, Transmitter
from edge_server.training.pretrain_foundation import DESCRIBE_QUESTION
from protos import payload
from protos.names import CHANNEL_MODELS, FADINGS
from protos.tokenlink.v1 import tokenlink_pb2 as pb

Group: TypeAlias = list[Template]
"""One question of each kind."""
WORKLOADS: Mapping[str, str] = MappingProxyType(
    {"words": "one-word answers", "captions": "one-word answers, a tenth of the questions asks for a caption"}
)
TOKEN_LENGTHS = (8, 16, 32)
SNRS_DB = (20.0, 10.0, 0.0)
DEADLINE_S = 120.0
"""Longer than anybody waits here: nothing is dropped for being late."""


def make_questions(model: Path, seed: int = 1) -> dict[str, list[Group]]:
    """Groups by workload.

    Args:
        model: folder of the model, with its device bundle.
        seed: of the channel.

    Raises:
        DeviceAgentError: there is no sound bundle.
    """
    transmitter = Transmitter(load_bundle(model / "bundle"))
    asked: dict[str, list[str]] = {}
    for row in demo_questions():
        asked.setdefault(row["clip"], []).append(row["question"])
    rng = np.random.default_rng(seed)
    groups: list[Group] = []
    for name, texts in asked.items():
        clip = clip_from_file(DEMO / "clips" / name, spec=transmitter.bundle.media_spec())
        for token_length in TOKEN_LENGTHS:
            tokens = transmitter.encode(clip, token_length).tokens
            for snr_db in SNRS_DB:
                channel = Channel(ChannelConfig(snr_db=snr_db), rng)
                groups.append(
                    [
                        Template.of(_message(transmitter, channel, tokens, text), text, name)
                        for text in (*texts, DESCRIBE_QUESTION)
                    ]
                )
    return {
        "words": [[each for each in group if each.text != DESCRIBE_QUESTION] for group in groups],
        "captions": groups,
    }


def draw_from(groups: Sequence[Group], seed: int) -> Draw:
    """Group after group in random order, each in random order; the same for everybody with the same seed."""
    rng = random.Random(seed)
    left: Group = []

    def draw(user: int) -> Question:
        if not left:
            for group in rng.sample(groups, len(groups)):
                left.extend(rng.sample(group, len(group)))
        return left.pop().ask()

    return draw


def _message(
    transmitter: Transmitter, channel: Channel, tokens: Mapping[str, Tokens], text: str
) -> pb.Question:
    return pb.Question(
        payloads=[_sent(channel, modality, x_TC) for modality, x_TC in tokens.items()],
        question_ids=transmitter.tokenize(text),
        deadline_ms=round(1000 * DEADLINE_S),
        whole_answer=True,  # as the peers give it
    )


def _sent(channel: Channel, modality: str, x_TC: Tokens) -> pb.TokenPayload:
    received = channel.transmit(x_TC)
    report = pb.ChannelReport(
        model=CHANNEL_MODELS[channel.config.model],
        fading=FADINGS[channel.config.fading],
        effective_snr_db=received.effective_snr_db,
        channel_uses=received.channel_uses,
        airtime_s=received.airtime_s,
    )
    return payload.encode(received.x_TC, modality, channel=report)
