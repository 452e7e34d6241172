"""Whether a model says that it is not sure, asked what it cannot know; and how sure it is of what it can.

Every held-out kind of :mod:`edge_server.data.soundstage.outsiders` is asked: questions about something else,
about clips of the split; and the split's questions about pictures and sounds from elsewhere, those that need
them. *Missing media* is the one kind that training knows too: what a question needs was not sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edge_server.data.annotations import QuestionRow
from edge_server.data.soundstage.outsiders import HELD_OUT_PICTURES, HELD_OUT_QUESTIONS, HELD_OUT_SOUNDS
from edge_server.data.soundstage.questions import TEMPLATES
from edge_server.data.soundstage.wordings import HELD_OUT
from edge_server.engine.calibration import Calibration
from edge_server.evaluation.accuracy import Evaluator, Setting
from edge_server.evaluation.asking import Ask, Sent, clip_sent, say, values_of
from edge_server.evaluation.calibrate import Answered, expected_error
from edge_server.model.config import AudioConfig, VisualConfig
from edge_server.training.clips import encode_media

EACH = 60
"""Questions of each kind."""
#: The one kind that training shows too.
MISSING = "missing media"


@dataclass(frozen=True)
class Kind:
    """Questions of one kind that a model cannot answer."""

    name: str
    """What they are."""
    asked: list[Ask]
    """The questions."""


def kinds(evaluator: Evaluator, setting: Setting, seed: int, each: int = EACH) -> Iterator[Kind]:
    """All kinds.

    Args:
        evaluator: of a model with encoders that are trained here.
        setting: says how many tokens are sent.
        seed: of everything that is drawn.
        each: questions of a kind.
    """
    needed = {template.text: template.needed for template in TEMPLATES}
    about = {
        slot: [q for q in evaluator.questions if slot in needed.get(q.template, ())]
        for slot in evaluator.link.slots
    }
    for number, (name, draw) in enumerate(HELD_OUT_QUESTIONS.items()):
        rng = np.random.default_rng([seed, 4, number])
        clips = [_any(evaluator.questions, rng).clip for _ in range(each)]
        yield Kind(name, [Ask(draw(rng), clip_sent(evaluator, clip, setting)) for clip in clips])
    visual, audio = evaluator.link.config.visual, evaluator.link.config.audio
    assert isinstance(visual, VisualConfig)  # noqa: S101 - Soundstage is for encoders that are trained here
    assert isinstance(audio, AudioConfig)  # noqa: S101
    for number, (name, paint) in enumerate(HELD_OUT_PICTURES.items()):
        rng = np.random.default_rng([seed, 5, number])
        size = (visual.format.frames, visual.format.height, visual.format.width)
        media = np.stack([paint(*size, rng) for _ in range(each)])
        yield Kind(name, _elsewhere(evaluator, "visual", media, about["visual"], setting, rng))
    for number, (name, make) in enumerate(HELD_OUT_SOUNDS.items()):
        rng = np.random.default_rng([seed, 6, number])
        media = np.stack([make(audio.format.samples, audio.format.sample_rate_hz, rng) for _ in range(each)])
        yield Kind(name, _elsewhere(evaluator, "audio", media, about["audio"], setting, rng))
    rng = np.random.default_rng([seed, 7])
    asked = []
    for index in range(each):
        slot = evaluator.link.slots[index % len(evaluator.link.slots)]
        question = _any(about[slot], rng)
        sent = clip_sent(evaluator, question.clip, setting)
        del sent[_modality(evaluator, slot)]
        asked.append(Ask(question.text, sent))
    yield Kind(MISSING, asked)


def judge_kinds(
    evaluator: Evaluator,
    calibration: Calibration,
    setting: Setting,
    seed: int,
    each: int = EACH,
    advance: Callable[[int], None] = lambda done: None,
) -> dict[str, dict[str, Any]]:
    """How many questions of each kind are abstained on."""
    found = {}
    for kind in kinds(evaluator, setting, seed, each):
        said = say(evaluator, kind.asked, setting, advance)
        abstained = sum(calibration.judge(s.text, s.logprobs, s.doubt).abstained for s in said)
        found[kind.name] = {
            "asked": len(said),
            "abstained": abstained,
            "share": abstained / len(said),
            "of_its_own": sum(s.text == calibration.unsure for s in said),
            "example": kind.asked[0].text,
            "seen_in_training": kind.name == MISSING,
        }
    return found


def judge_in_domain(
    evaluator: Evaluator,
    calibration: Calibration,
    setting: Setting,
    seed: int,
    *,
    reworded: bool,
    advance: Callable[[int], None] = lambda done: None,
) -> tuple[dict[str, Any], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """What is lost of answers to the evaluator's questions, and how far confidence is off.

    Args:
        evaluator: of the model.
        calibration: to judge.
        setting: how.
        seed: of wordings.
        reworded: ask each question in one of the held-out wordings instead of its own.
        advance: told of questions that were asked.

    Returns:
        Figures; confidence and rightness of each answer that has one.
    """
    asked = []
    names = list(HELD_OUT)
    for index, question in enumerate(evaluator.questions):
        sent = clip_sent(evaluator, question.clip, setting)
        if reworded:
            rng = np.random.default_rng([seed, 8, index])
            worded = HELD_OUT[names[index % len(names)]](question.template, values_of(question), rng)
            asked.append(Ask(worded.text, sent, worded.system))
        else:
            asked.append(Ask(question.text, sent))
    said = say(evaluator, asked, setting, advance)
    answered = [Answered(s, s.text == q.answer) for s, q in zip(said, evaluator.questions, strict=True)]
    judged = [calibration.judge(a.said.text, a.said.logprobs, a.said.doubt) for a in answered]
    kept = [a.right for a, j in zip(answered, judged, strict=True) if not j.abstained]
    confidence = np.asarray([j.confidence if j.confidence is not None else 1.0 for j in judged])
    right = np.asarray([float(a.right) for a in answered])
    figures = {
        "snr_db": setting.channel.snr_db,
        "reworded": reworded,
        "questions": len(answered),
        "accuracy": float(right.mean()),
        "abstained": sum(j.abstained for j in judged) / len(judged),
        "right_answers_lost": sum(a.right and j.abstained for a, j in zip(answered, judged, strict=True))
        / max(int(right.sum()), 1),
        "accuracy_of_the_others": sum(kept) / max(len(kept), 1),
        "expected_calibration_error": expected_error(confidence, right),
    }
    return figures, confidence, right


def _elsewhere(
    evaluator: Evaluator,
    slot: str,
    media: npt.NDArray[Any],
    questions: list[QuestionRow],
    setting: Setting,
    rng: np.random.Generator,
) -> list[Ask]:
    """Questions that need a slot, about clips of which that slot is from elsewhere."""
    with torch.inference_mode():
        features = torch.cat([encode_media(evaluator.link, slot, part) for part in np.array_split(media, 4)])
        strangers = evaluator.link.send(slot, features, setting.token_length).numpy()
    asked = []
    for x_TC in strangers:
        question = _any(questions, rng)
        sent: Sent = clip_sent(evaluator, question.clip, setting) | {_modality(evaluator, slot): x_TC}
        asked.append(Ask(question.text, sent))
    return asked


def _modality(evaluator: Evaluator, slot: str) -> str:
    return next(m.of_clip for m in evaluator.link.config.modalities if m.slot == slot)


def _any(questions: list[QuestionRow] | tuple[QuestionRow, ...], rng: np.random.Generator) -> QuestionRow:
    return questions[int(rng.integers(len(questions)))]
