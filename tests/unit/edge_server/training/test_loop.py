"""The loop: a cut run goes on as if nothing had happened."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from edge_server.training.loop import DONE, EXAMINED, Schedule, cpu_s_of, run_stage
from edge_server.training.run import cores

SCHEDULE = Schedule(steps=12, learning_rate=0.05, warmup_steps=3, log_every=1, checkpoint_every=4)


class Line:
    """Fits a line to points that follow from the step alone."""

    def __init__(self, stop_at: int | None = None) -> None:
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 1)
        self.stop_at = stop_at

    def trainable(self) -> Mapping[str, nn.Parameter]:
        return dict(self.layer.named_parameters())

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        if step == self.stop_at:
            raise KeyboardInterrupt
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        loss = (self.layer(x) - x.sum(1, keepdim=True)).square().mean()
        return loss, {"twice": 2 * loss.item()}


def losses(directory: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines}


def test_a_cut_run_ends_like_one_that_was_not(tmp_path: Path) -> None:
    whole = Line()
    run_stage("whole", whole, SCHEDULE, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run_stage("cut", Line(stop_at=9), SCHEDULE, tmp_path / "cut")
    assert not (tmp_path / "cut" / DONE).exists()
    resumed = Line()
    run_stage("cut", resumed, SCHEDULE, tmp_path / "cut")
    assert torch.equal(whole.layer.weight, resumed.layer.weight)
    assert losses(tmp_path / "whole") == losses(tmp_path / "cut")


def test_time_goes_on_where_a_cut_run_left_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    clock = SimpleNamespace(
        monotonic=lambda: float(next(ticks)), process_time=lambda: 2.0 * float(next(ticks))
    )
    monkeypatch.setattr("edge_server.training.loop.time", clock)
    with pytest.raises(KeyboardInterrupt):
        run_stage("cut", Line(stop_at=9), SCHEDULE, tmp_path)
    run_stage("cut", Line(), SCHEDULE, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    for name in ("elapsed_s", "cpu_s"):
        at = [(line["step"], line[name]) for line in lines]
        before = next(spent for step, spent in at if step == 7)
        resumed = [spent for step, spent in at if step == 8][-1]
        assert resumed > before


def test_a_finished_stage_is_loaded_and_not_run_again(tmp_path: Path) -> None:
    first = Line()
    run_stage("stage", first, SCHEDULE, tmp_path)
    again = Line(stop_at=0)
    run_stage("stage", again, SCHEDULE, tmp_path)
    assert torch.equal(first.layer.weight, again.layer.weight)
    assert json.loads((tmp_path / DONE).read_text())["schedule"]["steps"] == 12


def test_what_a_stage_took_leaves_out_what_looked_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spent_s = [0.0]

    class Costly(Line):
        def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
            spent_s[0] += 1.0
            return super().loss(step)

    def look(done: int) -> dict[str, float] | None:
        spent_s[0] += 100.0
        return {"seen": 1.0} if done in (4, 12) else None

    monkeypatch.setattr(
        "edge_server.training.loop.time",
        SimpleNamespace(monotonic=lambda: 0.0, process_time=lambda: spent_s[0]),
    )
    run_stage("stage", Costly(), SCHEDULE, tmp_path, examine=look)
    assert cpu_s_of(tmp_path) == 12.0
    lines = [json.loads(line) for line in (tmp_path / EXAMINED).read_text().splitlines()]
    assert lines == [{"steps": n, "cpu_s": float(n), "seen": 1.0} for n in (4, 12)]


def test_it_learns(tmp_path: Path) -> None:
    run_stage("stage", Line(), Schedule(steps=150, learning_rate=0.05, warmup_steps=3), tmp_path)
    found = losses(tmp_path)
    assert found[max(found)] < 0.1 * found[0]


def test_the_schedule_warms_up_and_decays() -> None:
    schedule = Schedule(steps=100, learning_rate=1.0, warmup_steps=10, final_fraction=0.1)
    assert schedule.rate(0) == pytest.approx(0.1)
    assert schedule.rate(9) == pytest.approx(1.0)
    assert schedule.rate(55) == pytest.approx(0.55)
    assert schedule.rate(100) == pytest.approx(0.1)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    class Broken(Line):
        def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
            return self.layer.weight.sum() * float("nan"), {}

    with pytest.raises(FloatingPointError, match="at step 0"):
        run_stage("stage", Broken(), SCHEDULE, tmp_path)


@pytest.mark.parametrize(("told", "most"), [("1", 1), ("", 1 << 20), ("many", 1 << 20), ("0", 1 << 20)])
def test_a_training_takes_no_more_threads_than_the_environment_says(
    told: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert 1 <= cores() <= most
    assert cores() == min(most, len(os.sched_getaffinity(0)))
