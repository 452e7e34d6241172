from __future__ import annotations

import torch
from peft import PeftModel

from edge_server.data.annotations import QuestionRow
from edge_server.evaluation.accuracy import Score, most_frequent_answers, without_lora
from edge_server.model.link import Link


def question(template: str, answer: str, kind: tuple[str, str] = ("Audio", "Counting")) -> QuestionRow:
    return QuestionRow(clip=0, type=kind, template=template, text=template, answer=answer)


def test_the_blind_prior_is_the_most_frequent_answer_of_a_template() -> None:
    asked = [question("a?", "yes"), question("a?", "no"), question("a?", "no"), question("b?", "left")]
    assert most_frequent_answers(asked) == {"a?": "no", "b?": "left"}


def test_scores_count_overall_and_by_type() -> None:
    score = Score()
    score.add(question("a?", "yes"), "yes")
    score.add(question("a?", "no"), "yes")
    score.add(question("b?", "left", ("Visual", "Location")), "left")
    assert score.accuracy == 2 / 3
    report = score.to_json()
    assert report["questions"] == 3
    assert report["per_type"] == {
        "Audio Counting": {"accuracy": 0.5, "questions": 2},
        "Visual Location": {"accuracy": 1.0, "questions": 1},
    }


def test_the_oracle_reads_with_the_foundation_as_it_was_frozen(link: Link) -> None:
    assert isinstance(link.foundation, PeftModel)
    ids = torch.arange(20, 30)[None]
    tuned = link.foundation(input_ids=ids).logits
    with link.foundation.disable_adapter():
        frozen = link.foundation(input_ids=ids).logits
    bare = without_lora(link)
    torch.testing.assert_close(bare.foundation(input_ids=ids).logits, frozen)
    torch.testing.assert_close(link.foundation(input_ids=ids).logits, tuned)  # the original is as it was
    assert not torch.allclose(tuned, frozen)
