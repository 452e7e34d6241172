"""Measuring a model's loss: which questions are asked over which mixes, and the file that comes of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge_server.cell.allocation import LossFit, LossPoint
from edge_server.cell.allocation.surface_file import FILE, mix_of, read_points, read_tables, surface_json
from edge_server.data.annotations import QuestionRow
from edge_server.evaluation.accuracy import Score, Setting
from edge_server.evaluation.loss_surface import measure

QUESTIONS = [
    QuestionRow(clip=0, type=kind, template="", text="", answer="yes")
    for kind in (("Audio", "Counting"), ("Visual", "Location"), ("Audio-Visual", "Temporal"))
]


@dataclass
class Link:
    slots: tuple[str, ...] = ("visual", "audio")


class Evaluator:
    """Answers rightly from 0 dB and 4 tokens on; writes down what it was asked."""

    def __init__(self) -> None:
        self.link = Link()
        self.asked: dict[tuple[str, ...], set[str]] = {}

    def through_channel(
        self,
        setting: Setting,
        advance: Callable[[int], None],
        *,
        slots: Collection[str],
        wanted: Callable[[QuestionRow], bool],
    ) -> Score:
        score = Score()
        for question in filter(wanted, QUESTIONS):
            self.asked.setdefault(tuple(slots), set()).add(question.type[0])
            score.count(question, setting.channel.snr_db >= 0.0 and setting.token_length >= 4)
        return score


def test_each_mix_is_asked_about_what_it_can_know() -> None:
    evaluator: Any = Evaluator()
    points = measure(evaluator, (1, 4), (-5.0, 0.0))
    assert evaluator.asked == {
        ("visual", "audio"): {"Audio", "Visual", "Audio-Visual"},
        ("visual",): {"Visual"},
        ("audio",): {"Audio"},
    }
    assert list(points) == ["visual+audio", "visual", "audio"]
    assert {(p.snr_db, p.token_length): p.loss for p in points["audio"]} == {
        (-5.0, 1): 1.0,
        (-5.0, 4): 1.0,
        (0.0, 1): 1.0,
        (0.0, 4): 0.0,
    }


def test_the_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    loss = LossFit(a=0.05, b=0.3, p=1.2, c=0.02, d=0.9)
    points = [
        LossPoint(snr_db, length, float(loss.at(10.0 ** (snr_db / 10.0), length)))
        for snr_db in (-10.0, 0.0, 10.0)
        for length in (1, 4, 16)
    ]
    path = tmp_path / FILE
    assert read_tables(path) is None
    path.write_text(json.dumps(surface_json({mix_of(("audio", "visual")): points})))
    tables = read_tables(path)
    assert tables is not None
    table = tables["visual+audio"]
    assert table.as_fit().b == pytest.approx(0.3, abs=0.02)
    assert table.as_fit().max_error < 0.005
    assert [float(table.at(10.0 ** (p.snr_db / 10.0), p.token_length)) for p in points] == pytest.approx(
        [p.loss for p in points]
    )
    assert read_points(path) == {"visual+audio": points}


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"format": 2}', '{"format": 1, "mixes": {"a": {"fit": {}}}}']
)
def test_what_is_no_loss_surface_is_refused_by_its_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / FILE
    path.write_text(content)
    with pytest.raises(ValueError, match=r"loss_surface\.json: not a loss surface"):
        read_tables(path)


def test_the_shipped_model_has_one() -> None:
    """It falls with SNR and token length; where nothing gets through it is a guess, and says so."""
    tables = read_tables(Path(__file__).parents[4] / "deploy" / "models" / "soundstage-small" / FILE)
    assert tables is not None
    assert set(tables) == {"visual+audio", "visual", "audio"}
    for table in tables.values():
        assert table.filled == 0
        assert table.max_error < 0.05, "what had to be smoothed away"
        gone, perfect = (float(table.at(10.0 ** (snr_db / 10.0), 16)) for snr_db in (-60.0, 60.0))
        assert perfect < 0.25 < gone < 1.0
