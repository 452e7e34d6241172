"""How much a model loses when the same questions are asked in other words.

Each held-out wording (:data:`edge_server.data.soundstage.wordings.HELD_OUT`) is asked of the same questions,
over the same channel realisations, as the benchmark's own. Ways of training are compared by other wordings
(:data:`edge_server.data.soundstage.validation_wordings.VALIDATION`), about the validation split.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from device_agent.bundle.bundle import load_bundle
from device_agent.media.loading import clip_from_file
from device_agent.transmitter import Transmitter
from edge_server.data.annotations import QuestionRow
from edge_server.data.soundstage.phrasings import put_into
from edge_server.data.soundstage.questions import TEMPLATES
from edge_server.data.soundstage.wordings import HELD_OUT, Asked, Reword
from edge_server.evaluation.accuracy import Evaluator, Setting
from edge_server.evaluation.asking import Ask, Sent, clip_sent, say, values_of

#: Of the questions' own words.
PLAIN = "plain"


@dataclass(frozen=True)
class Reworded:
    """A question that can be asked in other words.

    Attributes:
        template: its text with placeholders.
        values: what fills them.
        answer: the truth.
        sent: what goes with it.
    """

    template: str
    values: tuple[str, ...]
    answer: str
    sent: Sent


def held_out(evaluator: Evaluator, count: int, setting: Setting, seed: int) -> list[Reworded]:
    """Some of the evaluator's questions, drawn without replacement."""
    picked = np.random.default_rng([seed, 1]).permutation(len(evaluator.questions))[:count]
    questions = [evaluator.questions[int(i)] for i in picked]
    return [
        Reworded(q.template, values_of(q), q.answer, clip_sent(evaluator, q.clip, setting)) for q in questions
    ]


def of_demo(demo: Path, model: Path, setting: Setting) -> list[Reworded]:
    """The questions of the demo, about its clips as a device decodes and encodes them.

    Args:
        demo: folder of ``questions.json`` and ``clips/``.
        model: model folder, with its device bundle.
        setting: says how many tokens are sent.
    """
    bundle = load_bundle(model / "bundle")
    transmitter = Transmitter(bundle)
    sent: dict[str, Sent] = {}
    reworded = []
    for row in json.loads((demo / "questions.json").read_text()):
        if row["clip"] not in sent:
            clip = clip_from_file(demo / "clips" / row["clip"], spec=bundle.media_spec())
            sent[row["clip"]] = transmitter.encode(clip, setting.token_length).tokens
        question = _row(row["question"], row["answer"])
        reworded.append(Reworded(question.template, values_of(question), question.answer, sent[row["clip"]]))
    return reworded


def _row(text: str, answer: str) -> QuestionRow:
    """A question as one of a split, with the template that it is of."""
    for template in TEMPLATES:
        row = QuestionRow(clip=0, type=template.type, template=template.text, text=text, answer=answer)
        try:
            values = values_of(row)
        except ValueError:
            continue
        if all(" " not in value for value in values):
            return row
    raise ValueError(f"{text!r} is of no template")


def ask_in_wordings(
    evaluator: Evaluator,
    questions: Sequence[Reworded],
    setting: Setting,
    seed: int,
    advance: Callable[[int], None] = lambda done: None,
    wordings: Mapping[str, Reword] = HELD_OUT,
) -> dict[str, dict[str, Any]]:
    """Right answers by wording, the benchmark's own first.

    Args:
        evaluator: of the model.
        questions: asked in every wording.
        setting: how.
        seed: of what is drawn in a wording.
        advance: told of questions that were asked.
        wordings: by name.
    """
    found: dict[str, dict[str, Any]] = {}
    for number, name in enumerate((PLAIN, *wordings)):
        asked = []
        for index, question in enumerate(questions):
            rng = np.random.default_rng([seed, 2, number, index])
            asked.append(_asked(wordings.get(name), question, rng))
        said = say(
            evaluator,
            [Ask(a.text, q.sent, a.system) for a, q in zip(asked, questions, strict=True)],
            setting,
            advance,
        )
        right = sum(tells(s.text, q.answer, q.template) for s, q in zip(said, questions, strict=True))
        found[name] = {
            "right": right,
            "accuracy": right / len(questions),
            "example": asked[0].text if not asked[0].system else f"{asked[0].system} | {asked[0].text}",
        }
    return found


def tells(text: str, answer: str, template: str) -> bool:
    """Whether a text is the answer, or a sentence that holds it and no other answer of the template.

    A model that was trained on Soundstage says the answer alone; one that speaks English, "On the left."
    """
    if text == answer:
        return True
    words = f" {' '.join(re.findall('[a-z]+', text.lower()))} "
    named = {each for each in _ANSWERS.get(template, ()) if f" {each} " in words}
    # Of "acoustic guitar" and "guitar", the longer was meant.
    return {each for each in named if not any(each != other and each in other for other in named)} == {answer}


_ANSWERS = {template.text: template.answers for template in TEMPLATES}


def _asked(reword: Reword | None, question: Reworded, rng: np.random.Generator) -> Asked:
    if reword is None:
        return Asked(put_into(question.template, question.template, question.values))
    return reword(question.template, question.values, rng)
