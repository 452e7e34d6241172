"""How sure an answer is, and when it is held back: the formula, the file, the engine."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge_server.engine import Completion, Delta, Engine, EngineConfig, Event, Request
from edge_server.engine.calibration import FILE, Calibration, read_calibration
from edge_server.errors import ModelError
from tests.weightless import State, WeightlessModel, ask

CALIBRATION = Calibration(scale=0.5, offset=-1.0, threshold=0.6, longest=3)


def test_confidence_is_platt_s_sigmoid_of_the_logit() -> None:
    found = CALIBRATION.confidence(0.9)
    assert found == pytest.approx(1 / (1 + math.exp(-(0.5 * math.log(9.0) - 1.0))))
    assert (
        0.0 <= CALIBRATION.confidence(0.0) < CALIBRATION.confidence(0.5) < CALIBRATION.confidence(1.0) <= 1.0
    )


@pytest.mark.parametrize(
    ("text", "probabilities", "confidence", "abstained"),
    [
        ("left", [0.9999], True, False),
        ("left", [0.9999, 0.1], True, True),
        ("not sure", [0.9, 0.9], True, True),
        ("not sure what else", [0.9] * 4, True, True),
        ("not surely", [0.9] * 4, False, False),
        ("a long description", [0.1] * 4, False, False),
        ("", [], False, False),
    ],
)
def test_short_answers_are_judged_and_long_ones_told(
    text: str, probabilities: list[float], confidence: bool, abstained: bool
) -> None:
    judged = CALIBRATION.judge(text, [math.log(p) for p in probabilities])
    assert (judged.confidence is not None, judged.abstained) == (confidence, abstained)


def test_what_it_nearly_said_it_is_not_sure_of_is_held_back_however_confident() -> None:
    doubting = replace(CALIBRATION, doubt=0.1)
    sure = [math.log(0.9999)]
    assert doubting.judge("left", sure, 0.05).abstained is False
    assert doubting.judge("left", sure, 0.15).abstained is True
    assert CALIBRATION.judge("left", sure, 0.99).abstained is False
    assert doubting.judge("a long description", [math.log(0.1)] * 4, 0.9).abstained is False


def test_a_model_folder_keeps_it(tmp_path: Path) -> None:
    assert read_calibration(tmp_path / FILE) is None
    doubting = replace(CALIBRATION, doubt=0.25)
    doubting.write(tmp_path, {"questions": 7})
    assert read_calibration(tmp_path / FILE) == doubting
    assert json.loads((tmp_path / FILE).read_text())["fitted"] == {"questions": 7}


@pytest.mark.parametrize(
    "change",
    [
        {"version": 9},
        {"threshold": 1.5},
        {"doubt": -0.5},
        {"scale": "x"},
        {"longest": -1},
        {"scale": math.nan},
    ],
)
def test_a_file_that_holds_none_is_refused_by_its_name(tmp_path: Path, change: dict[str, object]) -> None:
    CALIBRATION.write(tmp_path)
    path = tmp_path / FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match=FILE):
        read_calibration(path)


@pytest.fixture
def model() -> WeightlessModel:
    return WeightlessModel()


@pytest.fixture
async def engine(model: WeightlessModel, request: pytest.FixtureRequest) -> AsyncIterator[Engine[State]]:
    calibration = Calibration(1.0, 0.0, request.param, longest=6)
    made: Engine[State] = Engine(model, EngineConfig(), runner_of=lambda _: model, calibration=calibration)
    await made.start()
    yield made
    await made.stop()


async def events_of(engine: Engine[State]) -> tuple[list[Event], Completion]:
    events = [event async for event in engine.submit(Request(ask(1, 2), "user"))]
    end = events.pop()
    assert isinstance(end, Completion)
    assert "".join(event.text for event in events if isinstance(event, Delta)) == end.text
    return events, end


@pytest.mark.parametrize("engine", [1.0], indirect=True)
async def test_an_answer_that_is_not_sure_is_held_back(model: WeightlessModel, engine: Engine[State]) -> None:
    model.answer = lambda prompt: "left"
    events, end = await events_of(engine)
    assert (end.text, end.abstained, end.guess, end.logprobs) == ("not sure", True, "left", ())
    assert end.confidence is not None
    assert [event.text for event in events if isinstance(event, Delta)] == ["not sure"]


@pytest.mark.parametrize("engine", [0.0], indirect=True)
async def test_nothing_is_held_back_below_a_threshold_of_0(
    model: WeightlessModel, engine: Engine[State]
) -> None:
    model.answer = lambda prompt: "left"
    _, end = await events_of(engine)
    assert (end.text, end.abstained, end.guess) == ("left", False, "")
    assert end.confidence == pytest.approx(end.probability, abs=1e-5)


@pytest.mark.parametrize("engine", [1.0], indirect=True)
async def test_a_long_answer_streams_once_it_cannot_be_held_back(
    model: WeightlessModel, engine: Engine[State]
) -> None:
    model.answer = lambda prompt: "a long description"
    events, end = await events_of(engine)
    assert (end.text, end.abstained, end.confidence) == ("a long description", False, None)
    first = events[0]
    assert isinstance(first, Delta)
    assert first.text == "a long "[: len(first.text)]
    assert len(events) > 5
