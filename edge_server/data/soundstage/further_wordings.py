"""Wordings that a model learns from which knows the first ones, and words that are worn away.

Two ways to make unseen wordings harmless: :func:`further_wording` asks in the sentences of
:mod:`~edge_server.data.soundstage.further_rules`, with more before and behind; :func:`noisy` wears down any
question, word by word. Neither makes a sentence that evaluation asks in, of the test or of validation, nor
uses a word by which a held-out synonym is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import numpy as np

from edge_server.data.soundstage import phrasing_grammar, wordings
from edge_server.data.soundstage.further_rules import BEFORE, BEHIND, FURTHER, FURTHER_PARTS, SYSTEMS
from edge_server.data.soundstage.phrasing_grammar import PARTS, built
from edge_server.data.soundstage.phrasings import PHRASINGS
from edge_server.data.soundstage.validation_wordings import validation_texts

#: Words that may be missing, or stand twice, and a question still asks the same.
_DISPENSABLE = frozenset((
    "a", "an", "and", "any", "are", "at", "be", "can", "did", "do", "does", "from", "have", "here", "i", "if",
    "in", "is", "it", "kind", "kinds", "may", "me", "musical", "of", "on", "one", "please", "really", "say",
    "so", "tell", "that", "the", "there", "this", "to", "types", "was", "we", "were", "you",
))  # fmt: skip
_FILLERS = (
    "well", "so", "hm", "um", "like", "just", "actually", "maybe", "then", "now", "here", "again", "also",
    "please", "exactly", "simply", "then", "indeed", "-", "...",
)  # fmt: skip
_TRIES = 50
_PARTS = {**PARTS, **FURTHER_PARTS}


def further_wording(template: str, values: Sequence[str], rng: np.random.Generator) -> str:
    """A question in words to learn from: of the further rules, or of the first ones.

    Args:
        template: its text with placeholders.
        values: what fills them.
        rng: source of all randomness.
    """
    if rng.random() < 0.35:
        return wordings.training_wording(template, values, rng)
    return further_surrounded(wordings.worn(_sentence(template, rng), template, values, rng), rng)


def further_surrounded(text: str, rng: np.random.Generator) -> str:
    """A question, now and then with something before or behind it, to learn from."""
    if rng.random() < 0.3:
        return wordings.surrounded(text, rng)
    if rng.random() < 0.3:
        text = f"{_allowed(BEFORE, rng)} {text}"
    if rng.random() < 0.3:
        text = f"{text} {_allowed(BEHIND, rng)}"
    return text


def further_system(rng: np.random.Generator) -> str:
    """A system prompt to learn to ignore."""
    return _allowed(SYSTEMS, rng) if rng.random() < 0.5 else wordings.training_system(rng)


def noisy_wording(template: str, values: Sequence[str], rng: np.random.Generator) -> str:
    """A question in the first wordings, worn down.

    Args:
        template: its text with placeholders.
        values: what fills them.
        rng: source of all randomness.
    """
    text = wordings.training_wording(template, values, rng)
    return noisy(text, values, rng) if rng.random() < 0.7 else text


def noisy(text: str, values: Sequence[str], rng: np.random.Generator) -> str:
    """A question some words of which are missing, doubled, moved by one, or none at all.

    Only words that it can do without; names of instruments and places stay where they are.

    Args:
        text: the question.
        values: names in it.
        rng: source of all randomness.
    """
    held = {word for value in values for word in value.split()}
    kept: list[str] = []
    for word in text.split(" "):
        bare = word.lower().strip("?.,:;!")
        odds = rng.random()
        if bare not in _DISPENSABLE or bare in held or odds >= 0.36:
            kept.append(word)
        elif odds < 0.2:
            continue
        elif odds < 0.28:
            kept.append(wordings.pseudo_word(rng))
        elif odds < 0.32 and kept and kept[-1].lower() in _DISPENSABLE - held:
            kept.insert(-1, word)
        else:
            kept += [word, word]
    for _ in range(int(rng.integers(0, 3))):
        filler = (
            wordings.pseudo_word(rng) if rng.random() < 0.4 else _FILLERS[int(rng.integers(len(_FILLERS)))]
        )
        kept.insert(int(rng.integers(len(kept) + 1)), filler)
    return " ".join(kept)


def _sentence(template: str, rng: np.random.Generator) -> str:
    for _ in range(_TRIES):
        made = phrasing_grammar.sentence(template, rng, FURTHER, _PARTS)
        if not _judged(made):
            return made
    return template


def _allowed(rules: tuple[str, ...], rng: np.random.Generator) -> str:
    for _ in range(_TRIES):
        made = built(rules, rng)
        if not _judged(made):
            return made
    return ""


def _judged(text: str) -> bool:
    """Whether evaluation asks in it, or knows a word of it as one that nobody has learned."""
    bare = wordings.said(text)
    return bare in _judged_texts() or not unknown_words().isdisjoint(bare.split())


@cache
def _judged_texts() -> frozenset[str]:
    texts = (*wordings.held_out_sentences(), *validation_texts())
    return wordings.held_out_questions() | {wordings.said(text) for text in texts}


@cache
def unknown_words() -> frozenset[str]:
    """Words of held-out synonyms that the first training never shows; nothing else may show them either."""
    known = phrasing_grammar.words() | {
        word for text in wordings.training_sentences() for word in wordings.said(text).split()
    }
    of_synonyms = {
        word
        for phrasings in PHRASINGS.values()
        for sentence in phrasings.synonyms
        for word in wordings.said(re.sub("<.*?>", "", sentence)).split()
    }
    return frozenset(of_synonyms - known)
