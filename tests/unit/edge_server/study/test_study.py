"""The whole study, small: every system trained, every figure gathered and drawn, every section written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_server.study.bounds import bounds
from edge_server.study.cli import RECORDS, app
from edge_server.study.plots.drawings import DRAWINGS
from edge_server.study.study import ANSWERS, PROMISED, STUDIES, Task, settings_of
from edge_server.training.registry import all_recipes

FOLDERS = ("runs", "data", "out")


#: By a benchmark, by ``study cell``, and by ``evaluate`` of the shipped model.
MADE_ELSEWHERE = {
    "progressive",
    "worlds",
    "device_cost",
    "cell",
    "wordings",
    "out_of_domain",
    "cotrain",
    "radio",
    "alignment",
    "inversion",
    "combinations",
    "pilots",
    "semantic_digital",
}


def run_study(folder: Path, *more: str) -> str:
    flags = [word for name in FOLDERS for word in (f"--{name}", str(folder / name))]
    result = CliRunner().invoke(app, ["quick", "--jobs", "1", *flags, *more], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    run_study(folder)
    return folder


def test_every_figure_has_its_json_and_its_picture(folder: Path) -> None:
    out = folder / "out"
    for picture, (name, _) in DRAWINGS.items():
        if name in MADE_ELSEWHERE:
            continue
        assert json.loads((out / f"{name}.json").read_text())["budget"]["seeds"] == [1]
        assert (out / f"{picture}.png").read_bytes().startswith(b"\x89PNG")


def test_figure_a_has_every_system_and_channel(folder: Path) -> None:
    figure = json.loads((folder / "out/accuracy_snr.json").read_text())
    curves = {(c["system"], c["channel"], c["fading"]) for c in figure["curves"]}
    systems = {
        "two-stage", "no-alignment", "authors", "two-stage-long", "no-alignment-long",
        "digital", "digital-capacity", "quantised",
    }  # fmt: skip
    channels = {("awgn", "block"), ("rayleigh", "block"), ("rayleigh", "fast")}
    assert curves == {(system, *channel) for system in systems for channel in channels}


def test_the_page_has_every_section_and_no_missing_figure_but_those_made_elsewhere(folder: Path) -> None:
    page = (folder / "out/README.md").read_text()
    words = (
        "What is not shown",
        "What was promised",
        "What analog tokens are worth",
        "Ablation",
        "Paper scale",
    )
    for title in (*words, *(f"{letter}. " for letter in "ABCDEFGHIJKLMNOPQRS")):
        assert f"## {title}" in page
    assert "Complete: every system" in page
    missing = {name for name in MADE_ELSEWHERE if f"Not measured: '{name}' is missing." in page}
    assert missing == MADE_ELSEWHERE
    assert page.count("is missing.") == len(missing)
    rows = json.loads((folder / "out/must_show.json").read_text())["rows"]
    (unmeasured,) = [row["row"] for row in rows if "missing" in row]
    assert unmeasured.startswith("int8 graphs")


def test_a_second_call_trains_and_asks_nothing_again(folder: Path) -> None:
    def state() -> dict[Path, tuple[int, int]]:
        logs = {path: (path.stat().st_size, 0) for path in folder.rglob("*.jsonl")}
        weights = (folder / "runs").rglob("*.safetensors")
        return logs | {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in weights}

    before = state()
    run_study(folder, "--part", "train")
    run_study(folder, "--part", "rivals")  # as it was called before
    assert state() == before


def figures(out: Path) -> dict[str, object]:
    found = {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")}
    return {name: {k: v for k, v in each.items() if k != "commit"} for name, each in found.items()}


def test_figures_need_the_records_alone(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "out", tmp_path / "out")
    (tmp_path / "data").symlink_to(folder / "data")
    for part in ("train", "baselines", "figures"):
        run_study(tmp_path, "--part", part)
    assert not (tmp_path / "runs").exists()
    assert figures(tmp_path / "out") == figures(folder / "out")


def test_what_is_missing_is_trained_anew_on_the_encoders_of_a_model(folder: Path, tmp_path: Path) -> None:
    system = "two-stage-linspace"
    shutil.copytree(folder / "out", tmp_path / "out")
    (tmp_path / "data").symlink_to(folder / "data")
    record = Task("quick", system, 1).record(tmp_path / "out" / RECORDS)
    before = (record / ANSWERS).read_text()
    shutil.rmtree(record)
    model = Task("quick", "authors", 1).run(folder / "runs", folder / "data").model
    run_study(tmp_path, "--part", "train", "--base", str(model))
    # Aligned and fine-tuned again, on encoders that came another way: the same to the digit.
    assert (record / ANSWERS).read_text() == before
    trained = {path.parent.name for path in (tmp_path / "runs").rglob("finetune")}
    assert trained == {Task("quick", system, 1).run(tmp_path / "runs", tmp_path / "data").directory.name}


def test_systems_are_recipes_that_can_be_asked_for_by_name() -> None:
    study = STUDIES["full"]
    assert set(study.systems) <= set(all_recipes())
    assert set(PROMISED) <= set(study.systems)
    assert all(settings_of(system, study.budget) for system in study.systems)
    assert len(study.seeds) >= 3


def test_parts_and_records_under_their_former_names_are_read(tmp_path: Path) -> None:
    flags = [word for name in FOLDERS for word in (f"--{name}", str(tmp_path / name))]
    result = CliRunner().invoke(app, ["quick", *flags, "--part", "conquest"])
    assert result.exit_code == 2
    assert "all, train, baselines" in result.output
    study = STUDIES["full"]
    (tmp_path / f"floors-{study.test_clips}.json").write_text('{"questions": 7}')
    assert bounds(study, tmp_path, tmp_path, tmp_path) == {"questions": 7}
    (tmp_path / f"bounds-{study.test_clips}.json").write_text('{"questions": 8}')
    assert bounds(study, tmp_path, tmp_path, tmp_path) == {"questions": 8}


def test_an_unknown_study_is_refused() -> None:
    result = CliRunner().invoke(app, ["grand"])
    assert result.exit_code == 2
    assert "full, quick" in result.output
