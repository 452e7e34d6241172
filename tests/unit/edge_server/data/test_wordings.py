"""Wordings to learn from and held-out ones: disjoint, and each says what its template says."""

from __future__ import annotations

import re

import numpy as np
import pytest

from edge_server.data.annotations import QuestionRow
from edge_server.data.soundstage import outsiders, phrasing_grammar, wordings
from edge_server.data.soundstage.phrasings import PHRASINGS, put_into
from edge_server.data.soundstage.questions import TEMPLATES
from edge_server.evaluation.asking import values_of

NAMED = re.compile("<[A-Za-z]+[0-9]*>")


def words_of(sentence: str) -> set[str]:
    return set(re.findall(r"[a-z']+", NAMED.sub("", sentence).lower()))


def said(sentence: str) -> str:
    return " ".join(re.findall(r"[a-z0-9'<>]+", sentence.lower()))


def test_every_template_has_other_sentences_with_its_own_placeholders() -> None:
    assert {template.text for template in TEMPLATES} == set(PHRASINGS)
    for template, phrasings in PHRASINGS.items():
        for sentence in (*phrasings.training, *phrasings.reordered, *phrasings.synonyms):
            assert set(NAMED.findall(sentence)) == set(NAMED.findall(template)), sentence


def test_values_go_where_the_sentence_names_them() -> None:
    template = "Is the <Object1> louder than the <Object2>?"
    softer = put_into("Is the <Object2> softer than the <Object1>?", template, ("drum", "flute"))
    assert softer == "Is the flute softer than the drum?"
    twice = put_into("Between <Object1> and <Object2>, is it the <Object1>?", template, ("drum", "flute"))
    assert twice == "Between drum and flute, is it the drum?"


def test_no_held_out_sentence_is_learned_from() -> None:
    training = {said(sentence) for sentence in wordings.training_sentences()}
    held_out = [said(sentence) for sentence in wordings.held_out_sentences()]
    # The system prompt that everybody sends differs from the one that is learned by more than its end.
    assert not [sentence for sentence in held_out if sentence in training]
    assert len(set(held_out)) == len(held_out)


def test_reordered_sentences_have_known_words_and_synonyms_have_one_that_is_not() -> None:
    sentences = [*wordings.training_sentences(), *outsiders.training_sentences()]
    known = set(phrasing_grammar.words()).union(*map(words_of, sentences))
    for phrasings in PHRASINGS.values():
        for sentence in phrasings.reordered:
            assert words_of(sentence) <= known, sentence
        for sentence in phrasings.synonyms:
            assert words_of(sentence) - known, sentence


@pytest.mark.parametrize("template", list(PHRASINGS))
def test_the_grammar_asks_what_the_template_asks_in_many_sentences(template: str) -> None:
    rng = np.random.default_rng(3)
    made = {phrasing_grammar.sentence(template, rng) for _ in range(600)}
    assert len(made) > 150
    for sentence in made:
        assert set(NAMED.findall(sentence)) == set(NAMED.findall(template)), sentence
        assert not set("{}[]|") & set(sentence), sentence
        assert words_of(sentence) <= phrasing_grammar.words(), sentence


@pytest.mark.parametrize("template", list(PHRASINGS))
def test_what_the_grammar_has_in_common_with_held_out_sentences_is_not_learned_from(template: str) -> None:
    rng = np.random.default_rng(4)
    drawn = {said(wordings._built(template, rng)) for _ in range(600)}
    phrasings = PHRASINGS[template]
    assert not drawn & {said(sentence) for sentence in (*phrasings.reordered, *phrasings.synonyms)}


def test_a_template_without_rules_is_its_own_sentence() -> None:
    assert phrasing_grammar.sentence("Does it float?", np.random.default_rng(0)) == "Does it float?"


def test_there_are_a_dozen_held_out_wordings_that_differ_from_the_question() -> None:
    template, values = "Where is the <Object>?", ("guitar",)
    plain = put_into(template, template, values)
    made = {
        name: reword(template, values, np.random.default_rng(1)) for name, reword in wordings.HELD_OUT.items()
    }
    assert len(made) >= 12
    assert all(asked.text != plain or asked.system for asked in made.values())
    assert all("guitar" in asked.text.lower() for asked in made.values())


@pytest.mark.parametrize("template", list(PHRASINGS))
def test_a_training_wording_keeps_what_is_asked_about(template: str) -> None:
    values = ("saxophone", "banjo") if "Object" in template else ("left", "right")
    values = values[: template.count("<")]
    rng = np.random.default_rng(5)
    drawn = [wordings.training_wording(template, values, rng) for _ in range(200)]
    assert all(value in text.lower() for text in drawn for value in values)
    assert len(set(drawn)) > 100


def test_a_template_without_other_sentences_is_asked_in_its_own() -> None:
    rng = np.random.default_rng(0)
    drawn = [wordings.training_wording("Does the <Object> float?", ("harp",), rng) for _ in range(20)]
    assert any(text == "Does the harp float?" for text in drawn)
    assert wordings.HELD_OUT["new sentences"]("Does it float?", (), rng).text == "Does it float?"


def test_what_is_judged_was_never_learned_from() -> None:
    rng = np.random.default_rng(2)
    judged = {draw(rng) for draw in outsiders.HELD_OUT_QUESTIONS.values() for _ in range(200)}
    learned = {outsiders.training_question(rng) for _ in range(3000)}
    assert not judged & learned
    assert len(judged) > 200


def test_pictures_and_sounds_from_elsewhere_have_the_encoders_shapes() -> None:
    rng = np.random.default_rng(3)
    pictures = [paint(8, 72, 120, rng) for paint in outsiders.HELD_OUT_PICTURES.values()]
    pictures += [outsiders.training_picture(8, 72, 120, rng) for _ in range(12)]
    assert all(p.shape == (8, 72, 120, 3) and p.dtype == np.uint8 for p in pictures)
    sounds = [make(16_000, 16_000, rng) for make in outsiders.HELD_OUT_SOUNDS.values()]
    sounds += [outsiders.training_sound(16_000, 16_000, rng) for _ in range(12)]
    assert all(s.shape == (16_000,) and s.dtype == np.int16 and np.abs(s).max() > 1000 for s in sounds)


def test_values_are_found_again_in_a_question() -> None:
    row = QuestionRow(
        clip=0,
        type=("Audio", "Comparative"),
        template="Is the <Object1> louder than the <Object2>?",
        text="Is the drum louder than the flute?",
        answer="yes",
    )
    assert values_of(row) == ("drum", "flute")
    with pytest.raises(ValueError, match="template"):
        values_of(QuestionRow(0, row.type, "Where is the <Object>?", row.text, "yes"))
