"""Wordings to choose by: neither learned from nor those that a model is judged in at last.

Sentences, prefixes, suffixes and system prompts of their own, of the same kinds as
:data:`edge_server.data.soundstage.wordings.HELD_OUT`. Whoever tries ways of training compares them by these,
and asks in the held-out ones once, at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edge_server.data.soundstage.phrasings import put_into
from edge_server.data.soundstage.wordings import Asked, Reword, training_system, training_wording

_BEFORE = (
    "good day to you!",
    "one more thing:",
    "help me with this:",
    "i am curious.",
    "sorry to bother you,",
    "for the clip above:",
    "new question -",
    "as i asked before,",
)
_BEHIND = (
    "many thanks",
    "say it in one word.",
    "yes or no will do",
    "short answer only",
    "that is all i need",
    "do it quickly.",
    "your answer is",
)
_SYSTEM = (
    "you answer questions about a stage.",
    "act as an expert in music and video.",
    "your answers are one word long.",
    "the assistant is honest and short.",
    "this server runs a small model.",
)

#: For each template, by its own text.
SENTENCES: Mapping[str, tuple[str, ...]] = {
    "How many musical instruments were heard throughout the video?": (
        "If you listen to the clip, how many instruments do you hear?",
        "Of how many instruments can the sound be heard?",
    ),
    "Is there a <Object> sound?": (
        "Among the sounds, is there one of a <Object>?",
        "Would you hear a <Object> if you listen to the clip?",
    ),
    "Is the <Object1> louder than the <Object2>?": (
        "Is it the <Object1> that plays louder, and the <Object2> that plays softer?",
        "Does one hear the <Object1> louder than the <Object2>?",
    ),
    "Does the <Object1> come in before the <Object2>?": (
        "Is the start of the <Object1> earlier than that of the <Object2>?",
        "When the <Object2> comes in, is the <Object1> already playing?",
    ),
    "How many types of musical instruments appeared in the entire video?": (
        "Looking at the stage, how many instruments do you find there?",
        "How many instruments does the picture show?",
    ),
    "Is there a <Object> in the entire video?": (
        "Does the picture show a <Object>?",
        "Among what is seen, is there a <Object>?",
    ),
    "What kind of instrument is on the <LR> of the stage?": (
        "Which instrument do I see if I look to the <LR>?",
        "To the <LR> there is an instrument: which one is it?",
    ),
    "Where is the <Object>?": (
        "Which place of the stage has the <Object>?",
        "The <Object>, on which side does it stand?",
    ),
    "Is this sound from the instrument in the video?": (
        "Does the instrument that we see make what we hear?",
        "Is it the shown instrument that makes the sound?",
    ),
    "Is the <Object> in the video playing?": (
        "The <Object> that we see, does it play?",
        "Is there music from the <Object> on the stage?",
    ),
    "Is there a voiceover?": (
        "Are there words spoken in the clip?",
        "Does one hear a person talk?",
    ),
    "Where is the first sounding instrument?": (
        "Whichever instrument sounds first, where does it stand?",
        "From which side is the first sound heard?",
    ),
    "Where is the loudest instrument?": (
        "Which side is the loudest one on?",
        "The instrument that we hear loudest: where is it?",
    ),
    "Is the first sound coming from the <LR> instrument?": (
        "Is what sounds first on the <LR>?",
        "The first sound, does it come from the <LR> of the stage?",
    ),
    "How many instruments are sounding in the video?": (
        "How many of those on the stage can we hear playing?",
        "Looking at the instruments on the stage, how many play?",
    ),
    "How many instruments in the video did not sound from beginning to end?": (
        "How many on the stage are there that make no sound?",
        "Of those that we see, how many are never heard?",
    ),
    "Is the instrument on the <LR> louder than the instrument on the <RL>?": (
        "On the <LR>, is it louder than on the <RL>?",
        "Does one hear the <LR> instrument louder than the <RL> one?",
    ),
    "Does the instrument on the <LR> come in before the instrument on the <RL>?": (
        "Is the start of the <LR> instrument earlier than that of the <RL> one?",
        "On the <LR>, does it start before it does on the <RL>?",
    ),
    "What is the first instrument that comes in?": (
        "What do we hear at first?",
        "With what instrument does it all start?",
    ),
    "What is the last instrument that comes in?": (
        "What instrument do we hear start last?",
        "At the end, which instrument joins the others?",
    ),
    "Which instrument makes sounds right before the <Object>?": (
        "What was the instrument that started right before the <Object> did?",
        "Just before the <Object> starts, what comes in?",
    ),
    "Which instrument makes sounds right after the <Object>?": (
        "What was the instrument that started right after the <Object> did?",
        "Just after the <Object> starts, what comes in?",
    ),
}


def validation_texts() -> list[str]:
    """Every text that these wordings are put together from."""
    return [*(s for each in SENTENCES.values() for s in each), *_BEFORE, *_BEHIND, *_SYSTEM]


def _pick(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


def _sentence(template: str, values: Sequence[str], rng: np.random.Generator) -> str:
    return put_into(_pick(SENTENCES.get(template, (template,)), rng), template, values)


def _around(pattern: str) -> Reword:
    """The question in a pattern of ``{before}``, ``{q}`` and ``{behind}``."""

    def reword(template: str, values: Sequence[str], rng: np.random.Generator) -> Asked:
        question = put_into(template, template, values)
        return Asked(pattern.format(before=_pick(_BEFORE, rng), q=question, behind=_pick(_BEHIND, rng)))

    return reword


def _new_sentence(template: str, values: Sequence[str], rng: np.random.Generator) -> Asked:
    return Asked(_sentence(template, values, rng))


def _system(template: str, values: Sequence[str], rng: np.random.Generator) -> Asked:
    return Asked(put_into(template, template, values), _pick(_SYSTEM, rng))


def _system_and_behind(template: str, values: Sequence[str], rng: np.random.Generator) -> Asked:
    return Asked(f"{put_into(template, template, values)} {_pick(_BEHIND, rng)}", _pick(_SYSTEM, rng))


def _everything(template: str, values: Sequence[str], rng: np.random.Generator) -> Asked:
    question = _sentence(template, values, rng).rstrip("?.").lower()
    return Asked(f"{_pick(_BEFORE, rng)} {question} {_pick(_BEHIND, rng)}", _pick(_SYSTEM, rng))


def _learned(template: str, values: Sequence[str], rng: np.random.Generator) -> Asked:
    system = training_system(rng) if rng.random() < 0.25 else ""
    return Asked(training_wording(template, values, rng), system)


#: No unseen wording, but what the shipped recipe draws: how much of it was learned.
LEARNED = "of training"
#: By name.
VALIDATION: Mapping[str, Reword] = {
    "words before": _around("{before} {q}"),
    "words behind": _around("{q} {behind}"),
    "words before and behind": _around("{before} {q} {behind}"),
    "labels": _around("QUESTION> {q} ANSWER>"),
    "system prompt": _system,
    "system prompt, words behind": _system_and_behind,
    "new sentences": _new_sentence,
    "new sentences, words around, system prompt": _everything,
    LEARNED: _learned,
}
