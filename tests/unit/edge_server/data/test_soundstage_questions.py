"""Scenes, captions and questions: what is asked has one answer, and no blind guess is worth much."""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict

import numpy as np
import pytest

from edge_server.data.annotations import fill
from edge_server.data.soundstage.captions import (
    describe,
    describe_picture,
    describe_sound,
    picture_words,
    sound_words,
)
from edge_server.data.soundstage.dataset import sample_scenes
from edge_server.data.soundstage.questions import TEMPLATES, Balancer, types
from edge_server.data.soundstage.scene import (
    KINDS,
    LEVEL_STEP_DB,
    MAX_SOUNDING,
    ONSET_GAP_S,
    Performer,
    Scene,
    Sound,
    sample_scene,
)

#: A violin plays on the left, a drum mimes in the middle, a flute is heard off stage, louder and later.
SCENE = Scene(
    performers=(Performer("violin", "left", "playing"), Performer("drum", "middle", "miming")),
    sounds=(Sound("violin", "left", 0.2, -5.0), Sound("flute", None, 1.0, 0.0)),
    voice_over=True,
    seed=7,
)


def truth(text: str, *values: str) -> set[str]:
    template = next(t for t in TEMPLATES if t.text == text)
    return {answer for found, answer in template.find(SCENE) if found == values}


@pytest.mark.parametrize(
    ("text", "values", "answer"),
    [
        ("How many musical instruments were heard throughout the video?", (), "two"),
        ("Is there a <Object> sound?", ("flute",), "yes"),
        ("Is there a <Object> sound?", ("drum",), "no"),
        ("Is the <Object1> louder than the <Object2>?", ("violin", "flute"), "no"),
        ("Does the <Object1> come in before the <Object2>?", ("violin", "flute"), "yes"),
        ("How many types of musical instruments appeared in the entire video?", (), "two"),
        ("Is there a <Object> in the entire video?", ("flute",), "no"),
        ("What kind of instrument is on the <LR> of the stage?", ("middle",), "drum"),
        ("Where is the <Object>?", ("violin",), "left"),
        ("Is the <Object> in the video playing?", ("drum",), "no"),
        ("Is there a voiceover?", (), "yes"),
        ("Where is the first sounding instrument?", (), "left"),
        ("Where is the loudest instrument?", (), "off stage"),
        ("Is the first sound coming from the <LR> instrument?", ("left",), "yes"),
        ("How many instruments are sounding in the video?", (), "one"),
        ("How many instruments in the video did not sound from beginning to end?", (), "one"),
        ("What is the first instrument that comes in?", (), "violin"),
        ("What is the last instrument that comes in?", (), "flute"),
        ("Which instrument makes sounds right before the <Object>?", ("flute",), "violin"),
        ("Which instrument makes sounds right after the <Object>?", ("violin",), "flute"),
    ],
)
def test_the_truth_of_a_known_scene(text: str, values: tuple[str, ...], answer: str) -> None:
    assert truth(text, *values) == {answer}


def test_questions_that_make_no_sense_are_not_asked() -> None:
    # Two instruments sound, so "this sound" is nobody's; only one of them is on stage.
    assert truth("Is this sound from the instrument in the video?") == set()
    assert (
        truth("Is the instrument on the <LR> louder than the instrument on the <RL>?", "left", "middle")
        == set()
    )


def test_every_answer_is_one_of_its_templates() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        scene = sample_scene(rng)
        for template in TEMPLATES:
            answers: dict[tuple[str, ...], set[str]] = defaultdict(set)
            for values, answer in template.find(scene):
                answers[values].add(answer)
                fill(template.text, values)
            assert all(len(found) == 1 and found <= set(template.answers) for found in answers.values())


def test_scenes_keep_their_rules() -> None:
    for scene in sample_scenes("train", 500, seed=3):
        heard = [s.kind for s in scene.sounds]
        kinds = [p.kind for p in scene.performers] + [s.kind for s in scene.sounds if s.place is None]
        assert len(set(kinds)) == len(kinds)
        assert len(heard) <= MAX_SOUNDING
        assert {p.kind for p in scene.performers if p.action == "playing"} <= set(heard)
        onsets = [s.onset_s for s in scene.sounds]
        assert all(b - a >= ONSET_GAP_S - 1e-9 for a, b in itertools.pairwise(onsets))
        levels = sorted(s.level_db for s in scene.sounds)
        assert all(b - a >= LEVEL_STEP_DB - 1.0 for a, b in itertools.pairwise(levels))


def test_there_are_ten_kinds_and_nine_types() -> None:
    assert len(KINDS) >= 10
    assert len(types()) == 9


def test_the_blind_prior_is_worth_less_than_45_percent() -> None:
    rng = np.random.default_rng(0)

    def ask(clips: int) -> list[tuple[str, str]]:
        balancer = Balancer()
        return [
            (q.template.text, q.answer) for _ in range(clips) for q in balancer.choose(sample_scene(rng), rng)
        ]

    fitted: dict[str, Counter[str]] = defaultdict(Counter)
    for template, answer in ask(400):
        fitted[template][answer] += 1
    asked = ask(600)
    right = sum(fitted[template].most_common(1)[0][0] == answer for template, answer in asked)
    assert right / len(asked) < 0.45


def test_annotations_have_music_avqa_keys() -> None:
    question = Balancer().choose(SCENE, np.random.default_rng(0))[0]
    row = question.to_music_avqa("clip", 3)
    assert set(row) == {
        "video_id",
        "question_id",
        "type",
        "question_content",
        "templ_values",
        "question_deleted",
        "anser",
    }
    assert fill(str(row["question_content"]), json.loads(str(row["templ_values"]))) == question.text


def test_filling_a_template_needs_every_value() -> None:
    with pytest.raises(ValueError, match="templ_values: 1 values for 2 placeholders"):
        fill("Is the <Object1> louder than the <Object2>?", ["violin"])


def test_splits_share_no_scene_and_seeds_repeat() -> None:
    train, again, test = (sample_scenes(split, 50, seed=1) for split in ("train", "train", "test"))
    assert train == again
    assert not {s.seed for s in train} & {s.seed for s in test}
    assert sample_scenes("train", 50, seed=2) != train


def test_captions_tell_what_their_sense_can_know() -> None:
    rng = np.random.default_rng(0)
    texts = {describe(SCENE, rng) for _ in range(20)}
    assert len(texts) > 10
    assert all(
        "violin" in t and "drum" in t and "flute" in t and ("voice" in t or "speaks" in t) for t in texts
    )
    assert "flute" not in describe_picture(SCENE, rng)
    assert "drum" not in describe_sound(SCENE, rng)
    assert "left" not in describe_sound(SCENE, rng)


def test_what_is_seen_and_heard_in_words_that_always_stand_in_the_same_place() -> None:
    assert " ".join(picture_words(SCENE)) == "left a moving violin middle a moving drum . . . ."
    heard = "softest violin plays first loudest flute plays second . . . . somebody speaks"
    assert " ".join(sound_words(SCENE)) == heard
    rng = np.random.default_rng(3)
    for scene in (sample_scene(rng) for _ in range(200)):
        assert len(picture_words(scene)) == 12
        assert len(sound_words(scene)) == 14
        # They say what the descriptions say.
        assert set(sound_words(scene)) & set(KINDS) == {sound.kind for sound in scene.sounds}
        assert set(picture_words(scene)) & set(KINDS) == {p.kind for p in scene.performers}
