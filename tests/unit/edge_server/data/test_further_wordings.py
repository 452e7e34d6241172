"""Further and validation wordings keep what is asked, and nothing that is judged is learned from."""

from __future__ import annotations

import re

import numpy as np
import pytest

from edge_server.data.soundstage import further_wordings, phrasing_grammar, wordings
from edge_server.data.soundstage.further_rules import FURTHER, FURTHER_PARTS
from edge_server.data.soundstage.phrasings import PHRASINGS
from edge_server.data.soundstage.questions import TEMPLATES
from edge_server.data.soundstage.validation_wordings import SENTENCES, VALIDATION, validation_texts

NAMED = re.compile("<[^<>]*>")
VALUES = {"<Object>": "guitar", "<Object1>": "guitar", "<Object2>": "drum", "<LR>": "left", "<RL>": "right"}
ALL = [template.text for template in TEMPLATES]


def values_of(template: str) -> tuple[str, ...]:
    return tuple(VALUES[name] for name in NAMED.findall(template))


@pytest.mark.parametrize("template", ALL)
def test_further_rules_ask_what_the_template_asks_in_sentences_of_their_own(template: str) -> None:
    rng = np.random.default_rng(1)
    parts = {**phrasing_grammar.PARTS, **FURTHER_PARTS}
    made = {phrasing_grammar.sentence(template, rng, FURTHER, parts) for _ in range(400)}
    assert len(made) > 100
    for sentence in made:
        assert set(NAMED.findall(sentence)) == set(NAMED.findall(template)), sentence
        assert not set("{}[]|") & set(sentence), sentence
    assert len(made & {phrasing_grammar.sentence(template, rng) for _ in range(400)}) < len(made) / 10


@pytest.mark.parametrize("template", ALL)
def test_nothing_that_is_judged_is_drawn_to_learn_from(template: str) -> None:
    judged = {wordings.said(text) for text in (*wordings.held_out_sentences(), *validation_texts())}
    rng = np.random.default_rng(2)
    drawn = {wordings.said(further_wordings._sentence(template, rng)) for _ in range(400)}
    assert not drawn & judged
    words = {word for sentence in drawn for word in sentence.split()}
    assert not words & further_wordings.unknown_words()


def test_what_stands_around_a_question_is_not_what_is_judged() -> None:
    rng = np.random.default_rng(3)
    judged = {wordings.said(text) for text in (*wordings.held_out_sentences(), *validation_texts())}
    around = [further_wordings.further_surrounded("Where?", rng) for _ in range(600)]
    for text in around:
        before, _, behind = text.partition("Where?")
        assert {wordings.said(before), wordings.said(behind)}.isdisjoint(judged - {""}), text
    assert len(set(around)) > 150
    assert {wordings.said(further_wordings.further_system(rng)) for _ in range(300)}.isdisjoint(judged)


def test_every_held_out_synonym_has_a_word_that_further_rules_leave_out() -> None:
    for phrasings in PHRASINGS.values():
        for sentence in phrasings.synonyms:
            bare = NAMED.sub("", sentence)
            assert set(wordings.said(bare).split()) & further_wordings.unknown_words(), sentence


@pytest.mark.parametrize("template", ALL)
def test_worn_words_keep_names_in_their_order(template: str) -> None:
    rng = np.random.default_rng(4)
    values = values_of(template)
    names = set(values)
    for _ in range(50):
        text = wordings.put_into(template, template, values)
        worn = further_wordings.noisy(text, values, rng)
        kept = [word.strip("?.,").lower() for word in worn.split()]
        assert [word for word in kept if word in names] == list(values), worn
    assert len({further_wordings.noisy(text, values, rng) for _ in range(50)}) > 30
    assert values == () or all(
        value in further_wordings.noisy_wording(template, values, rng) for value in values
    )


@pytest.mark.parametrize("template", ALL)
def test_validation_sentences_are_of_no_grammar_and_not_held_out(template: str) -> None:
    rng = np.random.default_rng(5)
    own = {wordings.said(sentence) for sentence in SENTENCES[template]}
    assert len(own) == 2
    for sentence in SENTENCES[template]:
        assert set(NAMED.findall(sentence)) == set(NAMED.findall(template)), sentence
    first = {wordings.said(phrasing_grammar.sentence(template, rng)) for _ in range(2000)}
    assert not own & (first | wordings.held_out_questions())
    assert not own & {wordings.said(text) for text in wordings.training_sentences()}


def test_validation_wordings_say_something_else_than_the_question() -> None:
    rng = np.random.default_rng(6)
    template, values = "Is the <Object1> louder than the <Object2>?", ("guitar", "drum")
    plain = "Is the guitar louder than the drum?"
    for name, reword in VALIDATION.items():
        drawn = [reword(template, values, rng) for _ in range(5)]
        assert any(asked.text != plain or asked.system for asked in drawn), name
        assert all("guitar" in asked.text.lower() for asked in drawn), name
    assert VALIDATION["new sentences"]("Does it float?", (), rng).text == "Does it float?"


def test_a_template_without_further_rules_is_its_own_sentence() -> None:
    text = further_wordings.further_wording("Does the <Object> float?", ("harp",), np.random.default_rng(1))
    assert "harp" in text
