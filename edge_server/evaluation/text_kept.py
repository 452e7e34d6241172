"""Whether a model that was trained further still answers questions as its foundation did before.

Which answer a model prefers is the one that it finds likeliest, by the mean log probability of its language
tokens behind the question. Asked of the foundation with and without what was trained, on the same weights.
Then each question is answered as a server answers it, in one batch with questions about media, and the answer
compared, language token by language token, with that of a server of the foundation alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import torch
from peft import PeftModel

from edge_server.engine.ports import FeatureBlock, Prompt
from edge_server.errors import DatasetError
from edge_server.evaluation.accuracy import answer_all, without_lora
from edge_server.model import tokenizer as tk
from edge_server.model.link import Link
from edge_server.runtime.model_runner import ServedLink
from edge_server.training.teacher_forcing import Row, answer_logits

_BATCH = 20
_LONGEST = 24
_SNR_DB = 10.0


@dataclass(frozen=True)
class GeneralQuestion:
    """A question with four answers, the right one first."""

    text: str
    answers: tuple[str, ...]


def general_questions() -> tuple[GeneralQuestion, ...]:
    """Two hundred questions of many subjects, none of which is trained on."""
    lines = files(__package__).joinpath("general_questions.txt").read_text(encoding="utf-8").splitlines()
    split = [line.split("|") for line in lines if line]
    return tuple(GeneralQuestion(text, tuple(answers)) for text, *answers in split)


def text_kept(
    link: Link, questions: Sequence[GeneralQuestion], advance: Callable[[int], None] = lambda done: None
) -> dict[str, Any]:
    """How often a link prefers the answer that its foundation preferred before it was trained, and gives it.

    Args:
        link: the model; serving may merge its LoRA.
        questions: to ask.
        advance: told of each that was asked.

    Raises:
        DatasetError: the link has no LoRA: nothing was trained that could have forgotten.
    """
    foundation = link.foundation
    if not isinstance(foundation, PeftModel):
        raise DatasetError(f"{link.config.name} has no LoRA: its foundation is as it was")
    untouched = without_lora(link)
    now, before = [], []
    for question in questions:
        now.append(_preferred(link, question))
        with foundation.disable_adapter():
            before.append(_preferred(link, question))
        advance(1)
    count = len(questions)
    beside = [_about_media(link)] if link.slots else []
    said, said_before = (
        _answers(ServedLink(each, bundle_hash=""), questions, others)
        for each, others in ((link, beside), (untouched, []))
    )
    return {
        "questions": count,
        "agreement": sum(a == b for a, b in zip(now, before, strict=True)) / count,
        "same_answers": sum(a == b for a, b in zip(said, said_before, strict=True)) / count,
        "right": sum(answer == 0 for answer in now) / count,
        "right_untouched": sum(answer == 0 for answer in before) / count,
        "changed": [
            {"question": question.text, "untouched": question.answers[b], "now": question.answers[a]}
            for question, a, b in zip(questions, now, before, strict=True)
            if a != b
        ],
    }


def _answers(served: ServedLink, questions: Sequence[GeneralQuestion], others: Sequence[Prompt]) -> list[str]:
    """Greedy answers, each batch with other prompts first."""
    prompts = [Prompt((), tuple(tk.encode(served.link.tokenizer, each.text))) for each in questions]
    said: list[str] = []
    for begin in range(0, len(prompts), _BATCH):
        batch = [*others, *prompts[begin : begin + _BATCH]]
        said += answer_all(served, batch, _LONGEST)[len(others) :]
    return said


def _about_media(link: Link) -> Prompt:
    """A question about what a channel brings where nothing was sent."""
    modality = link.config.modalities[0].wire[0]
    size = (link.config.token_lengths[-1], link.config.channel_dim)
    noise = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    block = FeatureBlock(modality, noise, _SNR_DB)
    return Prompt((block,), tuple(tk.encode(link.tokenizer, "What do you see?")))


@torch.inference_mode()
def _preferred(link: Link, question: GeneralQuestion) -> int:
    row = Row.about({}, link.special)
    ids = tk.encode(link.tokenizer, question.text)
    for answer in question.answers:
        row.ask(ids, tk.encode(link.tokenizer, f"{answer}."))
    found = answer_logits(link, [row])
    said = torch.log_softmax(found.logits_KV, dim=-1).gather(1, found.targets_K[:, None])[:, 0]
    likely = [float(said[found.blocks_K == block].mean()) for block in range(1, len(question.answers) + 1)]
    return max(range(len(likely)), key=likely.__getitem__)
