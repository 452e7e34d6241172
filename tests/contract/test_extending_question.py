"""Adding a type of question takes its templates: data, training and figures read the list."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from edge_server.data.annotations import QuestionRow
from edge_server.data.soundstage.dataset import Split
from edge_server.data.soundstage.questions import (
    TEMPLATES,
    YES_NO,
    Balancer,
    Found,
    Template,
    draw_questions,
    register,
    types,
)
from edge_server.data.soundstage.scene import Scene, sample_scene
from edge_server.evaluation.accuracy import Score
from edge_server.training.soundstage import SoundstageSplit
from tests.spelling import files_that_spell

KIND = ("Audio-Visual", "Difference")


def _still(scene: Scene) -> Found:
    yield (), YES_NO[not any(performer.action == "still" for performer in scene.performers)]


STILL = Template(KIND, "Does anybody stand still?", YES_NO, _still)


@pytest.fixture
def difference() -> Iterator[Template]:
    register(STILL)
    yield STILL
    TEMPLATES.remove(STILL)


def scenes(count: int) -> list[Scene]:
    rng = np.random.default_rng(3)
    return [sample_scene(rng) for _ in range(count)]


def test_data_sets_hold_it_with_answers_evenly_used(difference: Template) -> None:
    balancer, rng = Balancer(), np.random.default_rng(4)
    chosen = [question for scene in scenes(400) for question in balancer.choose(scene, rng)]
    mine = [question.answer for question in chosen if question.template is difference]
    assert len(mine) > 40
    counts = [mine.count(answer) for answer in set(mine)]
    assert len(counts) > 1
    assert max(counts) <= Balancer.TOLERANCE * min(counts) + Balancer._HEAD_START + 1


def test_training_draws_it(difference: Template) -> None:
    few = scenes(40)
    no_media = np.zeros((len(few), 0))
    split = SoundstageSplit(Split(no_media.astype(np.uint8), no_media.astype(np.int16), tuple(few), (), ()))
    rng = np.random.default_rng(5)
    asked = {text for clip in range(len(few)) for text, _ in split.questions(clip, 30, rng)}
    assert difference.text in asked
    answers = {q.answer for scene in few for q in draw_questions(scene, 30, rng) if q.template is difference}
    assert answers <= set(YES_NO)
    assert len(answers) > 1


def test_figures_show_it_after_the_others(difference: Template) -> None:
    assert types()[-1] == KIND
    score = Score()
    for kind in (KIND, types()[0]):
        score.add(QuestionRow(0, kind, difference.text, difference.text, "yes"), "yes")
    shown = score.to_json()["per_type"]
    assert list(shown) == [" ".join(types()[0]), "Audio-Visual Difference"]  # type: ignore[call-overload]


def test_a_text_stands_for_one_template(difference: Template) -> None:
    with pytest.raises(ValueError, match="registered already"):
        register(STILL)


def test_one_product_file_knows_types_of_question() -> None:
    assert len(types()) == 9
    # Rooms, a world of their own, have forms of their own, which are named alike.
    assert files_that_spell("Temporal", "Comparative") == {
        "edge_server/data/soundstage/questions.py",
        "edge_server/data/soundstage/room_questions.py",
    }
