"""The studies of alignments at equal computation, of unseen combinations and of inversion, small."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from edge_server.data.soundstage.dataset import generate
from edge_server.model.link import Link
from edge_server.study import combinations
from edge_server.study.alignment import arms, compare, gather
from edge_server.study.alignment.compare import looks_due
from edge_server.study.alignment.plan import Plan
from edge_server.study.alignment.trial import Trained
from edge_server.study.alignment.tuning import Found, search
from edge_server.study.cli import app
from edge_server.training.loop import EXAMINED

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
    assert all(promise["met"] is not True for promise in report["promises"]), "one seed settles nothing"
    assert len(report["promises"]) == 3
    for curve in report["curves"]:
        assert curve["points"][0]["rounds"] == 0.0
        assert curve["points"][-1]["rounds"] == rows[curve["arm"]]["stage_2"]["rounds"]
        assert curve["points"][-1]["cpu_s"] == pytest.approx(rows[curve["arm"]]["cpu_s"]["mean"], abs=0.3)
    page = (folder / "out" / "README.md").read_text()
    assert (
        "| dictation | slots are to say the scene's labels, word by word | **labels of the scene** |" in page
    )
    assert (folder / "out" / "alignment.png").read_bytes().startswith(b"\x89PNG")

    records = folder / "out" / "study" / "alignment-quick"
    assert not (records.parent / "alignment").exists(), "a small run leaves whole records alone"
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
    page = (folder / "out" / "README.md").read_text()
    assert "| seen combinations only | unseen |" in page
    assert "of 60 combinations of instrument, place and motion, 10 are left out" in page
    assert not (folder / "runs" / "combinations").exists(), "a small run leaves whole checkpoints alone"


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


def record(cpu_s: float, accuracy: float, looks: Sequence[tuple[int, float]]) -> dict[str, Any]:
    on_the_way = [{"rounds": n, "cpu_s": cpu_s * i, "val_accuracy": a} for i, (n, a) in enumerate(looks)]
    return {
        "commit": f"of {looks[-1][0]} rounds",
        "cpu_s": cpu_s * len(looks),
        "mean_accuracy": accuracy,
        "stage_1": {"steps": 0},
        "stage_2": {"rounds": looks[-1][0]},
        "on_the_way": on_the_way,
    }


def test_a_curve_is_the_mean_of_seeds_after_the_same_share_of_their_rounds() -> None:
    found = {1: record(1.0, 0.5, [(0, 0.0), (70, 0.3)]), 2: record(3.0, 0.5, [(0, 0.2), (80, 0.5)])}
    assert gather._curve("notes", found)["points"] == [
        {"cpu_s": 0.0, "rounds": 0.0, "val_accuracy": 0.1},
        {"cpu_s": 2.0, "rounds": 75.0, "val_accuracy": 0.4},
    ]
    with pytest.raises(ValueError, match="shorter"):
        gather._curve("notes", {**found, 3: record(1.0, 0.5, [(0, 0.0)])})


def test_systems_are_looked_at_after_the_same_shares_of_their_rounds() -> None:
    assert looks_due(732, 4) == (0, 36, 183, 366, 549, 732)
    assert len(looks_due(2, 4)) == len(looks_due(775, 4))


def test_looks_are_those_of_the_stages_own_log_at_the_time_of_both_stages(tmp_path: Path) -> None:
    lines = [(0, 0.0, 0.1), (4, 2.0, 0.2), (4, 2.5, 0.2), (8, 5.0, 0.3)]  # cut after 4, and gone on before it
    told = [json.dumps({"steps": n, "cpu_s": s, "val_accuracy": a}) for n, s, a in lines]
    (tmp_path / EXAMINED).write_text("\n".join(told) + "\n")
    trained = Trained(cast(Link, None), alignment_cpu_s=10.0, finetune_cpu_s=5.0, finetuned=tmp_path)
    assert compare._looks(trained, (0, 4, 8)) == [
        {"rounds": 0, "cpu_s": 10.0, "val_accuracy": 0.1},
        {"rounds": 4, "cpu_s": 12.5, "val_accuracy": 0.2},
        {"rounds": 8, "cpu_s": 15.0, "val_accuracy": 0.3},
    ]


@pytest.mark.parametrize(("seeds", "met"), [(2, None), (3, True)])
def test_fewer_than_three_seeds_meet_no_promise(seeds: int, met: bool | None) -> None:
    def kept(accuracy: float, *looks: tuple[int, float]) -> dict[int, Any]:
        return {seed: record(60.0, accuracy, looks) for seed in range(1, seeds + 1)}

    records: dict[str, dict[int, Any]] = {arm: {} for arm in arms.ARMS} | {
        "notes": kept(0.6, (0, 0.5), (100, 0.6)),
        "no-alignment": kept(0.4, (0, 0.3), (400, 0.5)),
        "dictation": kept(0.62, (0, 0.6), (100, 0.6)),
    }
    compared = gather.compared({"chosen": "notes"}, records)
    promises = gather.kept_promises({"chosen": "notes", "compared": compared})
    assert [promise["met"] for promise in promises] == [met] * 3
    assert {promise["commit"] for promise in promises} == {"of 100 rounds"}
    assert promises[0]["measured"] == (
        f"+20.0 points (notes 120 CPU-s, no-alignment 120 CPU-s, {seeds} seeds)"
    )
    # A system that never gets so far keeps no promise, whoever else did.
    records["notes"][1]["on_the_way"] = [{"rounds": 0, "cpu_s": 0.0, "val_accuracy": 0.1}]
    compared = gather.compared({"chosen": "notes"}, records)
    third = gather.kept_promises({"chosen": "notes", "compared": compared})[2]
    assert (third["met"], third["measured"]) == (False, f"not reached with 1 of {seeds} seeds")


def test_seeds_that_two_systems_do_not_share_speak_for_nothing() -> None:
    records: dict[str, dict[int, Any]] = {arm: {} for arm in arms.ARMS} | {
        "notes": {seed: record(60.0, 0.6, [(0, 0.5), (9, 0.6)]) for seed in (1, 2, 3)},
        "no-alignment": {seed: record(60.0, 0.4, [(0, 0.5), (9, 0.5)]) for seed in (1, 2, 3)},
        "dictation": {1: record(60.0, 0.62, [(0, 0.5), (9, 0.5)])},
    }
    compared = gather.compared({"chosen": "notes"}, records)
    promises = gather.kept_promises({"chosen": "notes", "compared": compared})
    assert [promise["met"] for promise in promises] == [True, None, True]


def test_what_is_kept_is_gathered_without_data_or_weights(tmp_path: Path) -> None:
    kept = Path(__file__).parents[4] / "docs" / "results" / "study" / "alignment"
    shutil.copytree(kept, tmp_path / "study" / "alignment")
    asked = ["alignment", "--kept", "--model", str(MODEL), "--data", str(tmp_path), "--out", str(tmp_path)]
    ran = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    report = json.loads((tmp_path / "alignment.json").read_text())
    # However many seeds: each curve has every look.
    assert {len(curve["points"]) for curve in report["curves"]} == {len(looks_due(100, Plan().looks))}


@pytest.mark.parametrize(
    ("met", "unseen", "others", "within"),
    [(0.8, 0.75, 0.8, True), (0.8, 0.65, 0.7, False), (0.7, 0.65, 0.8, False)],
    ids=["near both", "far below a link that met them", "far below the other clips"],
)
def test_unseen_combinations_are_held_against_the_same_clips_and_against_the_others(
    met: float, unseen: float, others: float, within: bool
) -> None:
    accuracy = {
        (combinations.ALL, combinations.UNSEEN): met,
        (combinations.ALL, combinations.OTHERS): others,
        (combinations.SEEN, combinations.UNSEEN): unseen,
        (combinations.SEEN, combinations.OTHERS): others,
    }
    rows = [
        {"trained_on": trained, "asked_about": asked, "seed": seed, "snr_db": snr_db, "accuracy": found + off}
        for (trained, asked), found in accuracy.items()
        for seed, off in ((1, 0.01), (2, -0.01))
        for snr_db in (10.0, 0.0)
    ]
    figure, kept = combinations.told({"rows": rows})
    lost, below = 100 * (met - unseen), 100 * (others - unseen)
    assert figure == (
        f"combinations {lost:.1f}, {lost:.1f} points at 10, 0 dB below a link that met them, on the same "
        f"clips, and {below:.1f}, {below:.1f} below the other clips (2 seeds)"
    )
    assert kept is within
