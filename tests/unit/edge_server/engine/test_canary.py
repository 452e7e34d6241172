from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from edge_server.engine import Engine, EngineConfig, Prompt
from edge_server.engine.canary import Canary, CanaryError, read_canaries, try_out
from edge_server.errors import ModelError
from tests.weightless import CHANNEL_DIM, State, WeightlessModel

SHIPPED = Path(__file__).parents[4] / "deploy/models/soundstage-small"


def told(prompt: Prompt) -> str:
    """An answer that hangs on the feature tokens, as a model's does."""
    return f"{float(np.abs(prompt.blocks[0].x_TC).mean()):.6f}"


def canaries(answer: str | None = None) -> tuple[Canary, ...]:
    made = [Canary.of(seed, {"video": (4, CHANNEL_DIM)}, [7, 8]) for seed in range(8)]
    return tuple(Canary(each.prompt, answer or told(each.prompt)) for each in made)


@pytest.fixture
async def model() -> WeightlessModel:
    return WeightlessModel(answer=told)


@pytest.fixture
async def engine(model: WeightlessModel) -> AsyncIterator[Engine[State]]:
    engine: Engine[State] = Engine(model, EngineConfig(), runner_of=lambda _: model)
    await engine.start()
    yield engine
    await engine.stop()


async def test_a_model_that_answers_as_it_did_passes(engine: Engine[State], model: WeightlessModel) -> None:
    await try_out(engine.submit, canaries())
    assert sum(model.prefills) == len(canaries())  # every one was asked


async def test_a_quarter_may_differ_and_no_more(engine: Engine[State]) -> None:
    await try_out(engine.submit, (*canaries()[:6], *canaries("else")[:2]))
    with pytest.raises(CanaryError, match="5 of 8"):
        await try_out(engine.submit, (*canaries()[:5], *canaries("else")[:3]))


async def test_another_model_is_told_by_what_it_says(engine: Engine[State], model: WeightlessModel) -> None:
    model.answer = lambda prompt: "something"
    with pytest.raises(CanaryError, match="'something', known is '0"):
        await try_out(engine.submit, canaries())


async def test_a_model_that_cannot_answer_fails_whatever_is_known(
    engine: Engine[State], model: WeightlessModel
) -> None:
    def broken(rows: State) -> None:
        raise RuntimeError("not a number")

    model.prefill_fault = broken
    with pytest.raises(CanaryError, match="not a number"):
        await try_out(engine.submit, tuple(Canary(each.prompt) for each in canaries()))


async def test_of_a_model_without_known_answers_any_will_do(
    engine: Engine[State], model: WeightlessModel
) -> None:
    model.answer = lambda prompt: "something"
    await try_out(engine.submit, tuple(Canary(each.prompt) for each in canaries()))
    assert sum(model.prefills) == len(canaries())


def test_feature_tokens_have_unit_power_and_follow_from_the_seed() -> None:
    block = Canary.of(3, {"video": (256, 64)}, [1]).prompt.blocks[0]
    assert float((block.x_TC**2).mean()) == pytest.approx(0.5, rel=0.03)
    assert np.array_equal(block.x_TC, Canary.of(3, {"video": (256, 64)}, [1]).prompt.blocks[0].x_TC)
    assert not np.array_equal(block.x_TC, Canary.of(4, {"video": (256, 64)}, [1]).prompt.blocks[0].x_TC)


def test_the_shipped_model_has_canaries_that_tell_answers_apart() -> None:
    known = read_canaries(SHIPPED / "canary.json")
    assert len(known) == 16
    assert len({each.answer for each in known}) >= 5


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "questions": [{"seed": 1}]}']
)
def test_a_file_that_holds_none_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "canary.json").write_text(text)
    with pytest.raises(ModelError, match=r"canary\.json"):
        read_canaries(tmp_path / "canary.json")


def test_a_model_folder_without_the_file_has_none(tmp_path: Path) -> None:
    assert read_canaries(tmp_path / "canary.json") == ()


def test_one_that_was_written_is_read(tmp_path: Path) -> None:
    written = {"seed": 1, "blocks": {"audio": [2, 8]}, "question_ids": [5], "answer": "yes"}
    path = tmp_path / "canary.json"
    path.write_text(json.dumps({"version": 1, "questions": [written]}))
    (canary,) = read_canaries(path)
    assert (canary.answer, canary.prompt.question_ids) == ("yes", (5,))
    assert canary.prompt.blocks[0].x_TC.shape == (2, 8)
