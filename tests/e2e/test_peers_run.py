"""The comparison as a program: quick, against FastAPI, with a peer that has no environment."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.benchmarks.peers import QUICK, environments, measure, plot, rows
from tests.benchmarks.peers.contestants import FASTAPI, LITSERVE
from tests.benchmarks.peers.show import show
from tests.e2e.conftest import ROOT

MODEL = ROOT / "deploy" / "models" / "soundstage-small"


pytestmark = pytest.mark.benchmark


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a quick run finds, read back from JSON."""
    nowhere = tmp_path_factory.mktemp("peers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environments, "FOLDER", environments.ROOT / "build" / nowhere.name)
        found = measure(MODEL, QUICK, [FASTAPI, LITSERVE], record=nowhere / "peers.part")
    assert not (nowhere / "peers.part").exists()
    return json.loads(json.dumps(found))


def test_everybody_answers_the_same(result: Any) -> None:
    for workload in ("words", "captions"):
        closed, library, opened = (result[phase][workload] for phase in ("closed", "library", "open"))
        assert library.keys() == {"fastapi"}
        assert closed.keys() == {"ours", "limit", "fastapi"}
        assert opened.keys() == {"ours", "fastapi"}
        for figures in (*closed.values(), *library.values(), *opened.values()):
            assert figures["answered"] > 0
            assert figures["wrong"] == 0
        for name in ("ours", "fastapi"):
            assert closed[name]["not_answered"] == 0
            assert closed[name]["cpu_s_per_question"]["median"] > 0
            assert opened[name]["p50_s"]["median"] <= opened[name]["p99_s"]["median"]
        offered_hz = closed["fastapi"]["answered_hz"]["median"] / 2
        assert result["open_rates_hz"][workload] == pytest.approx(offered_hz)


def test_promises_are_counted_against_the_best_peer(result: Any) -> None:
    found = rows(result)
    assert all(row["met"] is not None for row in found)
    for row in found[:2]:
        assert row["best"] == {"words": "fastapi", "captions": "fastapi"}
    for workload, ratio in found[0]["measured"].items():
        closed = result["closed"][workload]
        assert ratio == pytest.approx(
            closed["ours"]["answered_hz"]["median"] / closed["fastapi"]["answered_hz"]["median"]
        )


def test_a_peer_without_environment_is_reported_and_harms_nobody(result: Any) -> None:
    (litserve,) = (each for each in result["contestants"] if each["name"] == "litserve")
    assert "make peers" in litserve["could_not_run"]
    console = Console(record=True, width=160, file=io.StringIO())
    show(result, console)
    text = console.export_text()
    assert "LitServe could not be run here: no environment" in text
    assert "FastAPI, no batching" in text


def test_the_figure_is_drawn_from_the_results_alone(result: Any, tmp_path: Path) -> None:
    results, picture = tmp_path / "peers.json", tmp_path / "figures" / "peers.png"
    results.write_text(json.dumps(result))
    plot.main([str(results), str(picture)])
    first = picture.read_bytes()
    assert first.startswith(b"\x89PNG")
    for figures in result["closed"]["words"].values():
        figures["answered_hz"] = {"median": 3.0, "low": 1.0, "high": 9.0}
    results.write_text(json.dumps(result))
    plot.main([str(results), str(picture)])
    assert picture.read_bytes() != first
