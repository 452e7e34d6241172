"""The study of made-up cells: geometry by its source, joint never dearer, and the command as a whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from edge_server.cell.allocation import POLICIES, LossFit, LossPoint
from edge_server.cell.allocation.surface_file import FILE, surface_json
from edge_server.study.cell.compare import BY_FIT, OPTIMUM
from edge_server.study.cell.geometry import Geometry, path_loss_db, watts
from edge_server.study.cli import app

MODEL = Path(__file__).parents[4] / "deploy" / "models" / "soundstage-small"
LOSS = LossFit(a=0.05, b=0.3, p=1.2, c=0.02, d=0.9)


def test_path_loss_is_that_of_the_source() -> None:
    """TR 36.814: 128.1 dB at a kilometre, 37.6 dB more for each decade."""
    assert path_loss_db(np.array([1000.0, 100.0])) == pytest.approx([128.1, 90.5])
    assert watts(30.0) == pytest.approx(1.0)
    # At the cell's edge, over 1 MHz at 23 dBm: 23 - 128.1 - 20 + 169 - 60.
    at_edge = Geometry(radius_m=1000.0, nearest_m=999.999, shadowing_db=0.0)
    gain = at_edge.gains(1, np.random.default_rng(1))[0]
    snr = watts(23.0) * gain / (at_edge.noise_w_per_hz * 1e6)
    assert 10.0 * np.log10(snr) == pytest.approx(-16.1, abs=0.01)


def test_users_are_spread_over_the_area_and_shadowed() -> None:
    """Half of a circle's area lies beyond 0.707 of its radius; the level varies by the shadowing."""
    plain = Geometry(nearest_m=1.0, shadowing_db=0.0).gains(40_000, np.random.default_rng(1))
    beyond = 10.0 ** (-(path_loss_db(np.array([1000.0 / 2.0**0.5])) + 20.0) / 10.0)
    assert np.mean(plain < beyond) == pytest.approx(0.5, abs=0.01)
    near = Geometry(radius_m=500.001, nearest_m=500.0).gains(40_000, np.random.default_rng(1))
    assert np.std(10.0 * np.log10(near)) == pytest.approx(8.0, rel=0.02)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tmp_path_factory.mktemp("model")
    for name in ("model.json", "tokenizer.json"):
        shutil.copy(MODEL / name, model)
    points = [
        LossPoint(snr_db, length, float(LOSS.at(10.0 ** (snr_db / 10.0), length)))
        for snr_db in (-12.0, 0.0, 20.0)
        for length in (1, 4, 16)
    ]
    (model / FILE).write_text(json.dumps(surface_json({"visual+audio": points})))
    return model


def test_the_quick_study_says_what_joint_gains(folder: Path, tmp_path: Path) -> None:
    asked = ["cell", "--quick", "--jobs", "1", "--model", str(folder), "--out", str(tmp_path)]
    ran = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    report = json.loads((tmp_path / "cell.json").read_text())
    assert [point["sweep"] for point in report["points"]] == ["bandwidth", "power", "users"]
    assert report["loss"]["a"] == pytest.approx(LOSS.a, abs=0.005)
    for point in report["points"]:
        assert set(point["policies"]) == {*POLICIES, BY_FIT, OPTIMUM}
        for name, found in point["policies"].items():
            assert found["worst_drop"] <= (1.02 if name == OPTIMUM else 1.0)
            assert len(found["cost"]["values"]) == 3
    scarce = report["points"][0]["policies"]["fixed"]["joint_saves"]
    assert scarce["mean"] > 0.25, "24 users on 250 kHz: 16 tokens for all take too long"
    assert report["exhaustive"][0]["worst_ratio"] <= 1.02
    assert (tmp_path / "cell.png").stat().st_size > 10_000
    assert "| 24 users, 0.25 MHz" in (tmp_path / "README.md").read_text()


def test_a_model_whose_loss_was_not_measured_is_named(tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ["cell", "--quick", "--model", str(tmp_path), "--out", str(tmp_path)])
    assert ran.exit_code == 2
    assert "--loss-surface" in ran.output
