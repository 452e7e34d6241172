"""Questions of any words about anything that was sent, through the channel, to the served model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device_agent.channel import Channel
from edge_server.data.annotations import QuestionRow
from edge_server.engine.ports import FeatureBlock, Prompt
from edge_server.evaluation.accuracy import Evaluator, Said, Setting, say_all
from edge_server.model import tokenizer as tk

Sent = Mapping[str, npt.NDArray[np.float32]]
"""By modality: feature tokens before the channel, [token_length, C]."""


@dataclass(frozen=True)
class Ask:
    """A question."""

    text: str
    """Its words."""
    sent: Sent
    """What goes with it."""
    context: str = ""
    """Text that goes with it."""


def clip_sent(evaluator: Evaluator, clip: int, setting: Setting) -> dict[str, npt.NDArray[np.float32]]:
    """What a clip of the evaluator's split sends."""
    return {
        modality.of_clip: evaluator.sent(modality.slot, setting.token_length)[clip]
        for modality in evaluator.link.config.modalities
    }


def say(
    evaluator: Evaluator,
    asked: Sequence[Ask],
    setting: Setting,
    advance: Callable[[int], None] = lambda done: None,
) -> list[Said]:
    """Ask the evaluator's model; question i meets the same channel whatever its words are.

    Args:
        evaluator: of the model.
        asked: what to ask.
        setting: channel, seed of its realisations.
        advance: told of questions that were asked.
    """
    said: list[Said] = []
    for begin in range(0, len(asked), evaluator.batch_size):
        batch = asked[begin : begin + evaluator.batch_size]
        said += say_all(
            evaluator.served, [_prompt(evaluator, each, setting, begin + i) for i, each in enumerate(batch)]
        )
        advance(len(batch))
    return said


def _prompt(evaluator: Evaluator, ask: Ask, setting: Setting, index: int) -> Prompt:
    channel = Channel(setting.channel, np.random.default_rng([setting.seed, index]))
    blocks = []
    for modality, x_TC in ask.sent.items():
        reception = channel.transmit(x_TC)
        blocks.append(FeatureBlock(modality, reception.x_TC, reception.effective_snr_db))
    tokenizer = evaluator.link.tokenizer
    context = tuple(tk.encode(tokenizer, ask.context)) if ask.context else ()
    return Prompt(tuple(blocks), tuple(tk.encode(tokenizer, ask.text)), context)


def values_of(question: QuestionRow) -> tuple[str, ...]:
    """What fills the placeholders of a question's template.

    Raises:
        ValueError: its text is not of its template.
    """
    parts = re.split("<[^<>]*>", question.template)
    found = re.fullmatch("(.+?)".join(map(re.escape, parts)), question.text)
    if found is None:
        raise ValueError(f"{question.text!r} is not of the template {question.template!r}")
    return found.groups()
