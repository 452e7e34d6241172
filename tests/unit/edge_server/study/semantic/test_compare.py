"""The comparison: tuning finds what was planted, intervals cover, and a small run writes what pages read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from edge_server.data.soundstage.dataset import SplitName, generate
from edge_server.study.cli import app
from edge_server.study.semantic.asked import Counts, interval
from edge_server.study.semantic.compare import HARQ, IDEAL, SYSTEMS
from edge_server.study.semantic.description import Form
from edge_server.study.semantic.outage import Air
from edge_server.study.semantic.tuning import Effort, Worth, choose

MODEL = Path(__file__).parents[5] / "deploy/models/soundstage-small"


def test_the_finest_description_that_arrives_is_chosen() -> None:
    coarse, fine, useless = Form(1, 1), Form(1, 2), Form(1, 4)
    worth = Worth({coarse: 24, fine: 96, useless: 4000}, {coarse: 0.6, fine: 0.9, useless: 0.95}, prior=0.3)
    effort = Effort(kept=2, words=50)
    roomy = choose(worth, Air("awgn", snr_db=5.0), 256, 4, 1, effort)
    assert roomy[0].scheme.form == fine
    assert roomy[0].through > 0.95
    assert roomy[0].uses <= 256
    assert useless not in replace(worth, accuracy={**worth.accuracy, useless: 0.9}).worthwhile()
    tight = choose(worth, Air("awgn"), 64, 1, 1, effort)
    assert tight[0].scheme.form == coarse
    assert (tight[0].scheme.uses, tight[0].scheme.rounds) == (64, 1)


def test_intervals_cover_the_share_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    asked: Counts = np.full(200, 4.0)
    # All questions of a clip stand or fall together, at 0.8.
    covered = [
        low <= 0.8 <= high
        for low, high in (
            interval(np.where(rng.random(200) < 0.8, 4.0, 0.0), asked, seed) for seed in range(40)
        )
    ]
    assert 0.85 <= np.mean(covered) <= 1.0


def test_a_small_run_tells_every_system_at_no_more_than_its_budget(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    splits: tuple[SplitName, ...] = ("train", "val", "test")
    for seed, split in enumerate(splits):
        generate(data, split, 40 if split == "train" else 6, seed=seed, workers=1)
    flags = ["--runs", str(tmp_path / "runs"), "--data", str(data), "--out", str(out), "--model", str(MODEL)]
    result = CliRunner().invoke(app, ["semantic", "--quick", *flags], catch_exceptions=False)
    assert result.exit_code == 0
    report = json.loads((out / "semantic_digital.json").read_text())
    (point,) = report["points"]
    assert tuple(row["system"] for row in point["rows"]) == SYSTEMS
    rows = {row["system"]: row for row in point["rows"]}
    for row in rows.values():
        low, high = row["interval"]
        assert low <= row["accuracy"] <= high
        assert row["uses"] <= 2 * point["budget"]  # six clips: budgets are kept in the mean
    assert rows[IDEAL]["uses"] <= rows[HARQ]["uses"]
    assert rows[IDEAL]["bits"] == rows[HARQ]["bits"]
    assert rows[HARQ]["tuning"]["schemes"]
    (promise,) = report["promises"]
    assert "points" in promise["measured"]
    assert (out / "semantic_digital.png").read_bytes().startswith(b"\x89PNG")
    page = (out / "README.md").read_text()
    section = page.split("## S. Semantic digital")[1].split("\n## ")[0]
    assert "is missing" not in section
    assert section.index("Not shown") < section.index("|")
