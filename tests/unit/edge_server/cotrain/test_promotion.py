"""Nothing that is worse goes into service; what went comes back; training waits while serving is busy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_server.cotrain import promotion
from edge_server.cotrain.pausing import QueueWatch
from edge_server.cotrain.plan import Plan
from edge_server.cotrain.state import begin, file_name, load, write_json
from edge_server.errors import ConfigurationError

PLAN = Plan(rounds=3)


def report(**changed: Any) -> dict[str, Any]:
    row = {
        "held_out": {"before": {"accuracy": 0.5}, "after": {"accuracy": 0.6}},
        "validation": {"before": 0.9, "after": 0.9},
    }
    return {"validated": True, "devices": {"hall": {**row, **changed}}}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "bundle").mkdir(parents=True)
    (folder / "link.safetensors").write_bytes(b"old")
    (folder / "bundle" / "manifest.json").write_text("{}")
    return folder


def test_what_got_worse_is_said_by_device() -> None:
    assert promotion.worse(report()) == []
    worse = {"before": {"accuracy": 0.6}, "after": {"accuracy": 0.5}}
    (said,) = promotion.worse(report(held_out=worse))
    assert "hall: 60.0% of its held-out questions" in said
    assert promotion.worse(report(held_out=worse), allowed=0.11) == []
    (said,) = promotion.worse(report(validation={"before": 0.9, "after": 0.89}))
    assert "validation set" in said
    (said,) = promotion.worse(report(held_out={"before": {"accuracy": 0.6}}))
    assert "was not there" in said
    (said,) = promotion.worse({**report(), "validated": False})
    assert "--data" in said


def test_a_candidate_takes_the_models_place_and_gives_it_back(model: Path, tmp_path: Path) -> None:
    state = begin(tmp_path / "round", PLAN, model)
    with pytest.raises(ConfigurationError, match="no candidate"):
        promotion.promote(state)
    candidate = state.path(promotion.CANDIDATE)
    for folder in ("bundle", "bundle-of-hall"):
        (candidate / folder).mkdir(parents=True)
        (candidate / folder / "manifest.json").write_text('{"new": 1}')
    (candidate / "link.safetensors").write_bytes(b"new")
    write_json(state.path(promotion.REPORT), report(validation={"before": 0.9, "after": 0.8}))
    with pytest.raises(ConfigurationError, match=r"not promoted: hall: 90\.0%"):
        promotion.promote(state)
    assert (model / "link.safetensors").read_bytes() == b"old"
    promotion.promote(state, allowed=0.2)
    assert (model / "link.safetensors").read_bytes() == b"new"
    assert json.loads((model / "bundle-of-hall" / "manifest.json").read_text()) == {"new": 1}
    assert promotion.discard(load(tmp_path / "round"))
    assert (model / "link.safetensors").read_bytes() == b"old"
    assert (model / "bundle" / "manifest.json").read_text() == "{}"
    assert not (model / "bundle-of-hall").exists()
    with pytest.raises(ConfigurationError, match="holds no round"):
        load(tmp_path / "round")


def test_a_round_goes_on_as_it_was_told_and_with_its_model(model: Path, tmp_path: Path) -> None:
    first = begin(tmp_path / "round", PLAN, model)
    first.stop()
    assert first.stopping
    again = begin(tmp_path / "round", PLAN, model)
    assert again == first
    assert not again.stopping
    with pytest.raises(ConfigurationError, match="told otherwise"):
        begin(tmp_path / "round", Plan(rounds=4), model)
    (model / "link.safetensors").write_bytes(b"other")
    with pytest.raises(ConfigurationError, match="another model"):
        begin(tmp_path / "round", PLAN, model)


def test_devices_have_files_of_their_own() -> None:
    names = ["hall", "hall/1", "hall_1", "../hall", "." * 20, "é" * 100, "int8"]
    assert len({file_name(name) for name in names}) == len(names)
    assert all("/" not in file_name(name) and not file_name(name).startswith(".") for name in names)


async def test_training_waits_while_the_queue_is_long() -> None:
    depths = iter([9.0, 5.0, 2.0])
    waits: list[float] = []
    now = 0.0

    def read(url: str) -> str:
        return f"# TYPE tokenlink_queue_depth gauge\ntokenlink_queue_depth {next(depths)}\n"

    async def sleep(wait_s: float) -> None:
        nonlocal now
        waits.append(wait_s)
        now += wait_s

    watch = QueueWatch("http://server/metrics", 2, read=read, clock=lambda: now, sleep=sleep)
    await watch.idle()
    assert len(waits) == 2
    assert watch.paused_s == pytest.approx(sum(waits))
    await watch.idle()  # looked at just now: not asked again

    def gone(url: str) -> str:
        raise OSError("gone")

    silent = QueueWatch("http://server/metrics", 0, read=gone, clock=lambda: now, sleep=sleep)
    await silent.idle()
    assert len(waits) == 2
