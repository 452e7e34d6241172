"""The study of rounds: whom a server asks, what repeats take, and a small study from nothing to the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from device_agent.channel import ChannelConfig
from edge_server.cell import CellConfig
from edge_server.cell.allocation import LossFit
from edge_server.cell.rounds import MOST_REPEATS, Ladder, ReceivedBlock, Segment
from edge_server.data.soundstage.dataset import generate, load_split
from edge_server.evaluation.accuracy import Evaluator
from edge_server.evaluation.held_out import HeldOut
from edge_server.evaluation.progressive import Costs
from edge_server.model.link import Link
from edge_server.study.cli import app
from edge_server.study.progressive import compare, nested, sure, whom
from protos.names import REQUEST_CHANNEL_USES

MODEL = Path(__file__).parents[4] / "deploy" / "models" / "soundstage-small"
STEEP = LossFit(a=0.0, b=0.6, p=1.0, c=0.01, d=0.5)


def blocks(repeats: int = 0) -> dict[str, dict[int, whom.Block]]:
    block = whom.Block(ReceivedBlock((Segment(np.ones((2, 4), np.float32), 10.0),)), repeats)
    return {slot: dict.fromkeys(whom.RUNGS, block) for slot in ("visual", "audio")}


def test_a_way_counts_blocks_requests_and_what_came_again() -> None:
    together = whom.way(blocks(), Ladder(whom.RUNGS, False, -np.inf, {}), 16.0)
    assert together.lengths == ((2, 2), (4, 4), (16, 16))
    assert together.uses == (64.0, 64.0 + 128 + 72, 64.0 + 128 + 512 + 2 * 72)
    by_sight = whom.way(blocks(), Ladder(whom.RUNGS, False, -np.inf, {"visual": STEEP}), 16.0)
    assert by_sight.lengths == ((2, 2), (4, 2), (16, 2), (16, 4), (16, 16))
    assert by_sight.uses[1] == 64.0 + 64 + REQUEST_CHANNEL_USES
    again = whom.way(blocks(repeats=2), Ladder(whom.RUNGS, False, -np.inf, {}), 16.0)
    assert again.uses[0] == 3 * 64.0 + 2 * REQUEST_CHANNEL_USES


def test_a_rule_is_judged_by_where_its_questions_end() -> None:
    ladder = Ladder(whom.RUNGS, False, -np.inf, {})
    ways = [whom.way(blocks(), ladder, 16.0)] * 2
    confidence = {(n, n): np.array([0.9, 0.1]) for n in whom.RUNGS}
    right = {(2, 2): np.array([1.0, 1.0]), (4, 4): np.zeros(2), (16, 16): np.array([0.0, 1.0])}
    found = whom.judge(whom.Grid([blocks()] * 2, confidence, right), ways, 0.8)
    assert found == {"accuracy": 1.0, "channel_uses": (64.0 + 848.0) / 2, "rounds": 2.0}


def check_nested(found: dict[str, Any]) -> None:
    """Of two systems that learned next to nothing: what rounds cost them, and that both are told of."""
    usual, own = found["systems"]
    assert (usual["nested"], own["nested"]) == (False, True)
    for system in (usual, own):
        assert system["full_uses"] == 16 * 32.0
        assert system["trained_cpu_s"] > 0.0
        assert {point["channel"] for point in system["points"]} == {"awgn", "rayleigh"}
        costs = Costs(32.0, system["nested"])
        for point in system["points"]:
            spent = costs.spent(point["ladder"]["lengths"])
            assert point["channel_uses"] == pytest.approx(float(np.dot(point["rounds"], spent)))
            assert point["full_accuracy"] == point["of_length"]["16"]
            assert point["accuracy"] in point["of_length"].values() or max(point["rounds"]) < 1.0
        uses = np.mean([point["channel_uses"] for point in system["points"]])
        assert system["saved"] == pytest.approx(1.0 - uses / system["full_uses"])


def test_a_nested_block_is_what_all_rounds_brought(tmp_path: Path) -> None:
    generate(tmp_path, "test", 2, 1, 1)
    link = Link.load(MODEL)
    link.merge_lora()
    evaluator = Evaluator(link, HeldOut.of_soundstage(load_split(tmp_path, "test")), 2)
    clear = ChannelConfig(model="none")
    whole = nested._asked(evaluator, clear, 1, nested=False)
    rounds = nested._asked(evaluator, clear, 1, nested=True)
    assert set(whole) == set(nested.RUNGS)
    first = nested.RUNGS[0]
    assert rounds[first] == whole[first], "the first round is a block of its own either way"


def test_a_small_study_from_nothing_to_the_page(tmp_path: Path) -> None:
    for split, clips in (("train", 4), ("val", 2), ("test", 2)):
        generate(tmp_path / "data", split, clips, 1, 1)  # type: ignore[arg-type]
    folders = {name: str(tmp_path / name) for name in ("data", "runs", "out")}
    flags = [word for name, folder in folders.items() for word in (f"--{name}", folder)]
    asked = ["progressive", "--quick", "--model", str(MODEL), *flags, "--world", f"other={tmp_path / 'data'}"]
    ran = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    found = json.loads((tmp_path / "out" / "progressive.json").read_text())
    assert found["full_uses"] == 512.0
    assert all(point["channel_uses"] > 0.0 for point in found["points"])
    assert found["calibration"]["splits"].keys() == {"test", "other"}
    assert {row["rule"] for row in found["asking"]["rows"]} == {whom.TOGETHER, whom.MOST_HELPFUL}
    assert {row["repeats"] for row in found["asking"]["rows"]} == {0, 3}
    assert [row["met"] is not None for row in found["promises"]] == [True, True]
    check_nested(found["nested"])
    assert not (tmp_path / "runs" / "progressive").exists(), "a small run leaves whole trainings alone"
    assert (tmp_path / "out" / "progressive.png").exists()
    page = (tmp_path / "out" / "README.md").read_text()
    assert "what helps most" in page
    assert f"comes again, up to {MOST_REPEATS} times" in page
    assert "| two-stage-nested, seed 1 |" in page
    again = CliRunner().invoke(app, [*asked, "--kept"], catch_exceptions=False)
    assert again.exit_code == 0, again.output
    assert json.loads((tmp_path / "out" / "progressive.json").read_text())["points"] == found["points"]


@pytest.mark.parametrize(
    ("errors", "met"),
    [
        ({"test": 0.01}, None),
        ({"test": 0.05}, False),
        ({"test": 0.01, "another seed": 0.02}, True),
        ({"test": 0.01, "another seed": 0.05}, False),
    ],
    ids=["one seed settles nothing", "one seed is enough to break it", "both within", "one beyond"],
)
def test_calibration_is_kept_by_two_seeds_and_broken_by_one(
    errors: dict[str, float], met: bool | None
) -> None:
    promise = sure.kept({name: {"expected_error": error} for name, error in errors.items()})
    assert promise["met"] is met
    assert (promise["why"] is None) == (met is not None)


def test_a_promise_is_as_old_as_the_part_that_was_asked() -> None:
    report = {
        "mean": {"awgn": {"saved": 0.5, "lost": 0.0}},
        "seeds": [1],
        "commit": "of another part",
        "rounds_commit": "of rounds",
        "calibration": {"commit": "of calibration", "splits": {"test": {"expected_error": 0.01}}},
    }
    assert [row["commit"] for row in compare.kept(report)] == ["of rounds", "of calibration"]


def test_a_block_is_lost_where_a_server_says_so() -> None:
    assert CellConfig().outage_snr_db == whom.OUTAGE_SNR_DB


def test_what_was_measured_is_priced_by_where_its_questions_ended() -> None:
    point = {
        "channel": "awgn",
        "ladder": {"lengths": [4, 16], "until": 0.9},
        "ended_with": [0.75, 0.25],
        "accuracy": {"mean": 0.9},
        "full_accuracy": {"mean": 0.91},
        "shortest": 8,
    }
    points = [point, {**point, "channel": "rayleigh"}]
    found = compare.priced({"points": points}, Costs(32.0, request=72.0))
    uses = 0.75 * 4 * 32 + 0.25 * (20 * 32 + 72)
    assert found["points"][0]["channel_uses"] == uses
    assert found["mean"]["awgn"]["saved"] == 1.0 - uses / 512
