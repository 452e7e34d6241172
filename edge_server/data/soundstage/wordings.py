"""Questions as people ask them: other sentences, punctuation, politeness, what stands before and after.

A *wording* is a question's text and what stands in front of the conversation (a system prompt), which a door
hands to the model as context. :func:`training_wording` and :func:`training_system` draw them to learn from;
:data:`HELD_OUT` are those that evaluation asks in, by name. Whole sentences, prefixes, suffixes and system
prompts of the two are disjoint, and the held-out synonyms have words that training never shows.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from edge_server.data.soundstage import phrasing_grammar
from edge_server.data.soundstage.phrasings import PHRASINGS, put_into


@dataclass(frozen=True)
class Asked:
    """A question as it is asked."""

    text: str
    """The question."""
    system: str = ""
    """What stands in front of the conversation."""


PREFIXES = (
    "please tell me:",
    "tell me,",
    "please,",
    "hi!",
    "hello,",
    "hey,",
    "hey there,",
    "ok,",
    "so,",
    "now,",
    "next question:",
    "question:",
    "q:",
    "quick question:",
    "one question:",
    "i have a question.",
    "can you tell me:",
    "could you tell me:",
    "please answer:",
    "about this clip:",
    "in this video:",
    "look at the video.",
    "listen to the clip.",
    "look and listen.",
    "here is a video.",
    "this is a video of a stage.",
    "we are looking at a clip.",
    "watch this clip and answer:",
    "good morning!",
    "good evening,",
    "thanks for the help so far.",
    "let me ask you something.",
    "just wondering,",
    "i am not sure:",
    "my friend asks:",
    "user:",
    "dear assistant,",
    "excuse me,",
)
SUFFIXES = (
    "please",
    "please.",
    "thanks",
    "thanks!",
    "thank you so much.",
    "answer with one word.",
    "just one word, please.",
    "reply in a single word.",
    "give a short answer.",
    "be brief.",
    "only the answer, please.",
    "no explanation.",
    "answer:",
    "answer yes or no.",
    "answer now.",
    "do you know?",
    "what do you think?",
    "can you tell?",
    "tell me.",
    "i want to know.",
    "reply with one or two words.",
    "keep it short.",
    "do not explain.",
    "(short)",
    "use one word",
    "i need to know this",
)
SYSTEM_PROMPTS = (
    "you are an assistant.",
    "you are a helpful assistant that answers questions about videos.",
    "you are a careful model. answer in one or two words.",
    "answer the question about the video.",
    "you are a music expert.",
    "look at the clip, listen to it, and answer.",
    "be brief and exact.",
    "you help people to understand what they see and hear.",
    "you are a friendly chat bot. keep it short.",
    "answer with a single word. do not explain.",
    "the user shows a clip of a stage. answer the question.",
    "today is monday. you are a model on a server at the edge.",
    "please be polite and give short answers.",
    "respond in english.",
    "user: hi! assistant: hello, how can i help?",
    "you can see and hear. never make things up.",
    "use the following rules: 1. be short. 2. be right.",
    "format: plain text. no markdown.",
)

_HELD_OUT_PREFIXES = (
    "kindly answer this:",
    "would you mind telling me,",
    "greetings, robot.",
    "i'd like to know:",
    "alright then,",
    "please help me out here.",
    "a small thing:",
    "after watching this video, my question is:",
)
_HELD_OUT_SUFFIXES = (
    "much appreciated!",
    "cheers",
    "thank you very much",
    "if you don't mind.",
    "i'd be grateful.",
    "please let me know",
)
_HELD_OUT_BRIEF = (
    "Answer in one word.",
    "One word only.",
    "Respond briefly.",
    "Give me just the answer, nothing else.",
)
_HELD_OUT_SYSTEM = (
    "You are a helpful assistant.",
    "You are ChatGPT, a large language model. Follow the user's instructions carefully.",
    "You are a concise visual question answering system for concerts.",
    "Always answer truthfully. If the question is unclear, do your best.",
)
#: Words of no weight: a sentence says the same with another word in their place.
# fmt: off
_WEIGHTLESS = frozenset((
    "instrument", "instruments", "video", "clip", "stage", "musical", "kind", "types", "kinds",
    "entire", "whole", "throughout", "really", "right", "there", "different", "sound", "place", "side",
    "of", "the", "in", "any", "please",
))
# fmt: on
_CHATTER = (
    " ".join((*PREFIXES, *SUFFIXES, *SYSTEM_PROMPTS)).translate(str.maketrans("", "", ".,:!?()")).split()
)


def pseudo_word(rng: np.random.Generator) -> str:
    """A word that is none: three to eight letters."""
    letters = rng.choice(list(string.ascii_lowercase), int(rng.integers(3, 9)))
    # Every other letter a vowel, mostly: it can be said, and is cut into tokens as words are.
    vowels = rng.choice(list("aeiou"), len(letters))
    return "".join(vowels[i] if i % 2 and rng.random() < 0.8 else letter for i, letter in enumerate(letters))


def training_wording(template: str, values: Sequence[str], rng: np.random.Generator) -> str:
    """A question in words to learn from.

    Args:
        template: its text with placeholders.
        values: what fills them.
        rng: source of all randomness.
    """
    sentence = template
    phrasings = PHRASINGS.get(template)
    odds = rng.random()
    if phrasings is not None and odds < 0.2:
        sentence = _pick(phrasings.training, rng)
    elif odds < 0.8:
        sentence = _built(template, rng)
    return surrounded(worn(sentence, template, values, rng), rng)


def worn(sentence: str, template: str, values: Sequence[str], rng: np.random.Generator) -> str:
    """A sentence with its values, as it may be typed: a word that does not matter, letters, another end.

    Args:
        sentence: says the same as the template.
        template: what the values are of.
        values: what fills its placeholders.
        rng: source of all randomness.
    """
    if rng.random() < 0.2:
        sentence = _weightless_replaced(sentence, rng)
    text = put_into(sentence, template, values)
    if rng.random() < 0.06:
        text = _misspelt(text, values, rng)
    return _punctuated(text, rng)


def surrounded(text: str, rng: np.random.Generator) -> str:
    """A question, now and then with something before or after it, to learn from."""
    if rng.random() < 0.3:
        text = f"{_before(rng)} {text}"
    if rng.random() < 0.3:
        text = f"{text} {_after(rng)}"
    if rng.random() < 0.05:
        text = f"{_chatter(rng, 8)}. {text}"
    if rng.random() < 0.05:
        text = f"{training_system(rng)} {text}"
    return text


def training_system(rng: np.random.Generator) -> str:
    """A system prompt to learn to ignore: of the list, or chatter, or both."""
    odds = rng.random()
    if odds < 0.5:
        return _pick(SYSTEM_PROMPTS, rng)
    chatter = ". ".join(_chatter(rng, 12) for _ in range(int(rng.integers(1, 4))))
    return f"{_pick(SYSTEM_PROMPTS, rng)} {chatter}." if odds < 0.75 else f"{chatter}."


def _built(template: str, rng: np.random.Generator) -> str:
    """A sentence of the grammar that evaluation does not ask."""
    while said(sentence := phrasing_grammar.sentence(template, rng)) in held_out_questions():
        pass
    return sentence


def said(sentence: str) -> str:
    """What stays of a sentence without case and punctuation."""
    return " ".join(re.findall(r"[a-z0-9'<>]+", sentence.lower()))


@cache
def held_out_questions() -> frozenset[str]:
    """Sentences that evaluation asks in, as :func:`said`."""
    return frozenset(said(s) for p in PHRASINGS.values() for s in (*p.reordered, *p.synonyms))


def _before(rng: np.random.Generator) -> str:
    if rng.random() < 0.6:
        return _pick(PREFIXES, rng)
    return _chatter(rng, 5) + _pick((",", ":", ".", "!", ""), rng)


def _after(rng: np.random.Generator) -> str:
    if rng.random() < 0.6:
        return _pick(SUFFIXES, rng)
    return _chatter(rng, 5) + _pick((".", "!", "?", ""), rng)


def _chatter(rng: np.random.Generator, most: int) -> str:
    """Words in no order, some of them none: what says nothing about the clip."""
    count = int(rng.integers(1, most + 1))
    return " ".join(pseudo_word(rng) if rng.random() < 0.3 else _pick(_CHATTER, rng) for _ in range(count))


def _weightless_replaced(sentence: str, rng: np.random.Generator) -> str:
    """With a word that does not matter replaced by one that is none, left out, or with one more beside it."""
    words = sentence.split(" ")
    where = [i for i, word in enumerate(words) if word.lower().strip("?.,") in _WEIGHTLESS]
    if not where:
        return sentence
    i = where[int(rng.integers(len(where)))]
    odds = rng.random()
    if odds < 0.5:
        words[i] = pseudo_word(rng)
    elif odds < 0.75 and words[i].strip("?.,").lower() in ("the", "of", "in", "entire", "whole", "musical"):
        del words[i]
    else:
        words.insert(i, pseudo_word(rng))
    return " ".join(words)


def _misspelt(text: str, values: Sequence[str], rng: np.random.Generator) -> str:
    """With two letters of one word in the other order; names of instruments and places stay."""
    words = text.split(" ")
    held = {word for value in values for word in value.split()}
    where = [i for i, word in enumerate(words) if len(word) > 4 and word.strip("?.,:;!") not in held]
    if where:
        i = where[int(rng.integers(len(where)))]
        at = int(rng.integers(1, len(words[i]) - 2))
        word = words[i]
        words[i] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)


def _punctuated(text: str, rng: np.random.Generator) -> str:
    """With another end: mostly its own, or none, or several marks."""
    odds = rng.random()
    if odds < 0.45:
        return text
    bare = text.rstrip("?.")
    if odds < 0.8:
        return bare
    return bare + _pick((".", "??", "...", "!", " ?", "?!", ",", " -", ";"), rng)


def _pick(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


Reword = Callable[[str, Sequence[str], np.random.Generator], Asked]


def _rephrased(which: str) -> Reword:
    def reword(template: str, values: Sequence[str], rng: np.random.Generator) -> Asked:
        phrasings = PHRASINGS.get(template)
        sentence = _pick(getattr(phrasings, which), rng) if phrasings else template
        return Asked(put_into(sentence, template, values))

    return reword


def _around(before: Sequence[str], after: Sequence[str], system: Sequence[str] = ()) -> Reword:
    def reword(template: str, values: Sequence[str], rng: np.random.Generator) -> Asked:
        text = put_into(template, template, values)
        if before:
            text = f"{_pick(before, rng)} {text}"
        if after:
            text = f"{text} {_pick(after, rng)}"
        return Asked(text, _pick(system, rng) if system else "")

    return reword


def _changed(change: Callable[[str], str]) -> Reword:
    return lambda template, values, rng: Asked(change(put_into(template, template, values)))


def _system_in_front(template: str, values: Sequence[str], rng: np.random.Generator) -> Asked:
    return Asked(f"{_pick(_HELD_OUT_SYSTEM, rng)}\n\n{put_into(template, template, values)}")


def _everything(template: str, values: Sequence[str], rng: np.random.Generator) -> Asked:
    sentence = _rephrased("reordered")(template, values, rng).text.rstrip("?.").lower()
    before, after = _pick(_HELD_OUT_PREFIXES, rng), _pick(_HELD_OUT_SUFFIXES, rng)
    return Asked(f"{before} {sentence} {after}", _pick(_HELD_OUT_SYSTEM, rng))


HELD_OUT: Mapping[str, Reword] = {
    "lower case, no question mark": _changed(lambda text: text.lower().rstrip("?.")),
    "upper case": _changed(str.upper),
    "three question marks": _changed(lambda text: text.rstrip("?") + "???"),
    "in quotes": _changed(lambda text: f'"{text}"'),
    "Q: and A:": _changed(lambda text: f"Q: {text}\nA:"),
    "polite before": _around(_HELD_OUT_PREFIXES, ()),
    "thanks after": _around((), _HELD_OUT_SUFFIXES),
    "asked to be brief": _around((), _HELD_OUT_BRIEF),
    "polite before, brief after": _around(_HELD_OUT_PREFIXES, _HELD_OUT_BRIEF),
    "system prompt": _around((), (), _HELD_OUT_SYSTEM),
    "system prompt, asked to be brief": _around((), _HELD_OUT_BRIEF, _HELD_OUT_SYSTEM),
    "system prompt within the question": _system_in_front,
    "new sentences": _rephrased("reordered"),
    "unknown synonyms": _rephrased("synonyms"),
    "new sentences, polite, system prompt": _everything,
}
"""By name; each is asked of every question. Case alone is nothing new to a tokenizer that lowers it."""


def training_sentences() -> list[str]:
    """Every text that training wordings are put together from, placeholders included."""
    sentences = [sentence for p in PHRASINGS.values() for sentence in p.training]
    return [*PHRASINGS, *sentences, *PREFIXES, *SUFFIXES, *SYSTEM_PROMPTS]


def held_out_sentences() -> list[str]:
    """Every text that held-out wordings are put together from."""
    sentences = [sentence for p in PHRASINGS.values() for sentence in (*p.reordered, *p.synonyms)]
    around = (*_HELD_OUT_PREFIXES, *_HELD_OUT_SUFFIXES, *_HELD_OUT_BRIEF, *_HELD_OUT_SYSTEM)
    return [*sentences, *around]
