"""The studies of alignments at equal computation, of unseen combinations and of inversion, small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edge_server.data.soundstage.dataset import generate
from edge_server.study.alignment import gather
from edge_server.study.alignment.tuning import Found, search
from edge_server.study.cli import app

MODEL = Path(__file__).parents[4] / "deploy" / "models" / "soundstage-small"
ARMS = ("no-alignment", "distillation", "notes", "dictation")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alignment")
    for split, clips in (("train", 16), ("val", 2), ("test", 8)):
        generate(folder / "data", split, clips, 1, 1)  # type: ignore[arg-type]
    return folder


def run(folder: Path, name: str, *more: str) -> str:
    flags = [word for each in ("runs", "data", "out") for word in (f"--{each}", str(folder / each))]
    asked = [name, "--quick", "--model", str(MODEL), *flags, *more]
    ran = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return ran.output


@pytest.mark.benchmark
def test_every_system_has_its_budget_its_rates_and_its_answers(folder: Path) -> None:
    only = [word for arm in ARMS for word in ("--only", arm)]
    run(folder, "alignment", *only)
    report = json.loads((folder / "out" / "alignment.json").read_text())
    rows = {row["arm"]: row for row in report["rows"]}
    assert set(rows) == set(ARMS)
    assert rows["no-alignment"]["stage_1"]["cpu_s"] == 0.0
    assert report["chosen"] in ("distillation", "notes")
    for arm in ARMS:
        tried = [row for row in report["tuning"] if row["arm"] == arm]
        assert len({row["finetune_rate"] for row in tried if "val_accuracy" in row}) >= 4
        if arm != "no-alignment":
            assert len({row["alignment_rate"] for row in tried if "stage_1_loss" in row}) >= 4
    assert report["promises"][0]["met"] is not True, "one seed settles nothing"
    assert len(report["promises"]) == 3
    page = (folder / "out" / "README.md").read_text()
    assert (
        "| dictation | slots are to say the scene's labels, word by word | **labels of the scene** |" in page
    )
    assert (folder / "out" / "alignment.png").read_bytes().startswith(b"\x89PNG")

    records = folder / "out" / "study" / "alignment"
    before = {path: path.stat().st_mtime_ns for path in records.iterdir()}
    run(folder, "alignment", *only)
    assert {path: path.stat().st_mtime_ns for path in records.iterdir()} == before


@pytest.mark.benchmark
def test_links_are_asked_about_combinations_that_they_met_and_others(folder: Path) -> None:
    run(folder, "combinations")
    report = json.loads((folder / "out" / "combinations.json").read_text())
    asked = {(row["trained_on"], row["asked_about"]): row for row in report["rows"]}
    assert len(asked) == 4
    assert sum(row["clips"] for (trained, _), row in asked.items() if trained.startswith("seen")) == 8
    assert "| seen combinations only | unseen |" in (folder / "out" / "README.md").read_text()


@pytest.mark.benchmark
def test_attackers_have_their_table_and_settle_their_promise(folder: Path) -> None:
    run(folder, "inversion")
    report = json.loads((folder / "out" / "inversion.json").read_text())
    assert len(report["rows"]) == 2 * 2 * 2
    assert len(report["rotations"]) == 2 * 3
    (promise,) = report["promises"]
    assert "by a keyed rotation of each codeword" in promise["measured"]
    assert "| visual | as sent |" in (folder / "out" / "README.md").read_text()


def test_the_search_goes_on_beyond_its_ends_and_stops() -> None:
    assert search(lambda rate: -abs(rate - 2.0), (1.0, 2.0, 4.0), 2) == Found(2.0, True)
    assert search(lambda rate: -rate, (1.0, 2.0, 4.0), 2) == Found(0.2, False)
    assert search(lambda rate: -abs(rate - 8.0), (1.0, 2.0, 4.0), 2) == Found(8.0, True)


def test_a_system_that_is_not_there_is_refused(tmp_path: Path) -> None:
    asked = ["alignment", "--quick", "--model", str(MODEL), "--data", str(tmp_path), "--only", "x"]
    ran = CliRunner().invoke(app, asked)
    assert ran.exit_code == 2
    assert "allowed: no-alignment" in ran.output.replace("\n", " ")


def test_a_curve_is_the_mean_of_seeds_where_all_of_them_looked() -> None:
    def seed(cpu_s: float, *rounds: int) -> dict[str, Any]:
        looks = [{"rounds": each, "cpu_s": cpu_s * each, "val_accuracy": each / 100} for each in rounds]
        return {"on_the_way": looks}

    found = gather._curve("notes", {1: seed(1.0, 0, 50, 73), 2: seed(3.0, 0, 50, 60, 78)})
    assert found["points"] == [
        {"cpu_s": 0.0, "rounds": 0.0, "val_accuracy": 0.0},
        {"cpu_s": 100.0, "rounds": 50.0, "val_accuracy": 0.5},
    ]
