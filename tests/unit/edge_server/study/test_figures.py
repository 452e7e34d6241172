"""Figures' arithmetic, on numbers that can be worked out by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from edge_server.study.figures import budgets, must_show, question_size, token_worth
from edge_server.study.figures.ablation import CHANGES
from edge_server.study.figures.ablation import build as build_ablation
from edge_server.study.figures.alignment_seen import retrieval
from edge_server.study.figures.answers import Answers, paired_difference, spread
from edge_server.study.figures.convergence import rounds_to
from edge_server.study.figures.question_size import least_bits
from edge_server.study.figures.token_length import front
from edge_server.study.report.page import write_page
from edge_server.study.study import SNRS_DB, STUDIES
from edge_server.training.systems import LADDER

RESULTS = Path(__file__).parents[4] / "docs/results"


def line(system: str, seed: int, snr_db: float, accuracy: float, **where: Any) -> dict[str, Any]:
    setting = {"channel": "awgn", "fading": "block", "snr_db": snr_db, "token_length": 16, **where}
    kinds = {"Audio Counting": {"accuracy": accuracy, "questions": 4}}
    score = {"accuracy": accuracy, "questions": 4, "per_type": kinds}
    return {"system": system, "training_seed": seed, **setting, "score": score}


def test_a_spread_is_mean_and_sample_deviation() -> None:
    assert spread([0.5, 0.7]) == {"mean": 0.6, "std": pytest.approx(math.sqrt(0.02)), "values": [0.5, 0.7]}
    assert spread([0.5])["std"] == 0.0
    with pytest.raises(ValueError, match="at least one"):
        spread([])


def test_answers_are_found_by_setting_and_averaged_by_seed() -> None:
    answers = Answers(
        [line("a", 2, 0.0, 0.4), line("a", 1, 0.0, 0.2), line("a", 1, 5.0, 0.6), line("b", 1, 0.0, 0.1)]
    )
    assert answers.accuracies("a", snr_db=0.0) == [0.2, 0.4]
    assert answers.mean_over("a", [0.0, 5.0]) == {1: pytest.approx(0.4)}  # seed 2 was not asked at 5 dB
    assert answers.by_type("a", snr_db=5.0)["Audio Counting"]["mean"] == 0.6
    with pytest.raises(ValueError, match="several settings"):
        answers.scores("a")


def test_differences_are_paired_by_seed() -> None:
    assert paired_difference({1: 0.5, 2: 0.9}, {2: 0.6, 3: 0.1}) == [pytest.approx(0.3)]


def test_rounds_count_until_accuracy_stays() -> None:
    assert rounds_to({0: 0.9, 10: 0.95}, 0.8) == 0.0
    assert rounds_to({0: 0.5, 10: 0.7, 20: 0.9}, 0.8) == pytest.approx(15.0)
    # A dip after the first crossing counts.
    assert rounds_to({0: 0.85, 10: 0.7, 20: 0.9}, 0.8) == pytest.approx(15.0)
    assert rounds_to({0: 0.1, 10: 0.2}, 0.8) == 10.0


def test_the_front_keeps_what_no_other_point_beats() -> None:
    def curve(system: str, points: list[tuple[float, float]]) -> dict[str, Any]:
        return {
            "system": system,
            "snr_db": 10.0,
            "points": [
                {"token_length": 1, "airtime_s": airtime, "accuracy": {"mean": accuracy}}
                for airtime, accuracy in points
            ],
        }

    kept = front([curve("a", [(1.0, 0.5), (2.0, 0.6)]), curve("b", [(1.5, 0.7), (3.0, 0.7)])], 10.0)
    assert [(p["system"], p["airtime_s"]) for p in kept] == [("a", 1.0), ("b", 1.5)]


def test_fewest_bits_are_interpolated_between_the_points_around() -> None:
    points = [{"bits": 100, "accuracy": 0.4}, {"bits": 200, "accuracy": 0.8}, {"bits": 400, "accuracy": 0.7}]
    assert least_bits(points, 0.6) == pytest.approx(150)
    assert least_bits(points, 0.3) == 100
    assert least_bits(points, 0.9) is None


def test_retrieval_takes_any_text_that_says_the_same() -> None:
    tokens = torch.eye(3)
    texts = torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])
    # Clips 0 and 1 say the same, so each other's text will do.
    found = retrieval(tokens, texts, [["x"], ["x"], ["y"]])
    assert found["recall_at_1"] == 1.0
    assert found["chance_at_1"] == pytest.approx(5 / 9)
    assert retrieval(tokens, texts, [["x"], ["z"], ["y"]])["recall_at_1"] == pytest.approx(1 / 3)


def test_every_rung_of_the_ladder_has_its_change() -> None:
    assert set(CHANGES) == set(LADDER)
    lines = [
        line(system, 1, snr_db, 0.1 * position)
        for position, system in enumerate(LADDER)
        for snr_db in SNRS_DB
    ]
    table = build_ablation(Answers(lines), 16)
    assert [row["adds"] and round(row["adds"]["mean"], 3) for row in table["ladder"]] == [None] + [0.1] * 6


def curve(system: str, accuracies: list[float], **more: Any) -> dict[str, Any]:
    return {
        "system": system,
        "channel": "awgn",
        "fading": "block",
        "token_length": 16,
        "snr_db": [-10.0, -5.0, 0.0, 5.0],
        "training_seeds": [1, 2],
        "accuracy": [spread([a, a]) for a in accuracies],
        **more,
    }


def verdicts(figures: dict[str, Any]) -> dict[str, Any]:
    return {row["row"]: row for row in must_show.build(figures)["rows"]}


def test_promises_are_judged_from_the_figures() -> None:
    figure = {
        "token_length": 16,
        "curves": [
            curve("two-stage", [0.6, 0.8, 0.81, 0.82]),
            curve("no-alignment", [0.4, 0.5, 0.5, 0.5]),
            curve("digital", [0.4, 0.4, 0.7, 0.5]),
            curve("authors", [0.5, 0.78, 0.8, 0.82]),
        ],
    }
    ladder = [{"system": "rung-length", "accuracy": spread([0.6, 0.7])}]
    beside = [{"system": "no-alignment", "accuracy": spread([0.45, 0.55])}]
    rows = verdicts({"accuracy_snr": figure, "ablation": {"ladder": ladder, "beside": beside}})
    contrastive = next(row for name, row in rows.items() if name.startswith("Contrastive alignment"))
    assert contrastive["met"]
    assert contrastive["measured"] == pytest.approx(0.15)
    graceful = next(row for name, row in rows.items() if "5 dB less" in name)
    assert graceful["met"]  # what -10 dB costs is not asked
    assert graceful["measured"] == pytest.approx(0.01)
    # Measured, and no answer to what was promised: labels of the scene, no contest, not the authors' own.
    unsettled = {
        "Alignment with dictation": 0.2825,
        "Two-stage minus JPEG and Opus": 0.11,
        "Two-stage minus a variant of the authors": 0.0325,
    }
    for begin, measured in unsettled.items():
        row = next(row for name, row in rows.items() if name.startswith(begin))
        assert row["met"] is None
        assert row["unsettled"]
        assert row["measured"] == pytest.approx(measured)


def rounds(**by_system: list[float]) -> dict[str, Any]:
    return {
        "budget": {"alignment_steps": 1000},
        "curves": [
            {"system": system.replace("_", "-"), "rounds_to_nearly": spread(values)}
            for system, values in by_system.items()
        ],
    }


def test_steps_of_stage_1_count_among_the_rounds() -> None:
    figure = rounds(two_stage_long=[300.0, 300.0], no_alignment_long=[1000.0, 1000.0])
    row = next(row for name, row in verdicts({"convergence": figure}).items() if "final accuracy" in name)
    assert row["measured"] == pytest.approx(1.3)
    assert row["met"] is False
    assert list(row["sides"].values()) == [1300.0, 1000.0]
    at_once = rounds(two_stage_long=[300.0, 300.0], no_alignment_long=[0.0, 0.0])
    row = next(row for name, row in verdicts({"convergence": at_once}).items() if "final accuracy" in name)
    assert (row["met"], row["measured"]) == (None, None)


def equal(never_as_good: int) -> dict[str, Any]:
    found = question_size._equal("jpeg-opus", 4, 10.0, 128, [(64.0e3, bool(never_as_good))] * 3)
    return {"equal_accuracy": [found]}


def test_no_promise_is_met_by_an_undefined_ratio() -> None:
    at_once = rounds(two_stage_4_tokens=[0.0, 2.0], two_stage_16_tokens=[0.0, 8.0])
    later = rounds(two_stage_4_tokens=[10.0, 20.0], two_stage_16_tokens=[20.0, 40.0])
    short = "Rounds to 90%, 4 tokens over 16"
    undefined, defined = (verdicts({"convergence": figure})[short] for figure in (at_once, later))
    assert (undefined["met"], undefined["measured"]) == (None, None)
    assert (defined["met"], defined["measured"]) == (True, pytest.approx(0.5))

    media = "Channel uses at equal accuracy, 4 tokens over JPEG and Opus with an ideal code, 10 dB"
    undefined, defined = (verdicts({"question_size": equal(n)})[media] for n in (1, 0))
    assert (undefined["met"], undefined["measured"]) == (None, None)
    assert defined["met"] is True
    assert equal(1)["equal_accuracy"][0]["share"] is None


@pytest.mark.parametrize("path", [RESULTS / "must_show.json"], ids=["committed"])
def test_every_ratio_that_was_judged_has_its_two_sides(path: Path) -> None:
    judged = [row for row in json.loads(path.read_text())["rows"] if row["met"] is not None]
    assert judged
    for row in judged:
        numbers = [(row["unit"], row["measured"], row.get("sides"))]
        numbers += zip(
            row.get("beside_units", []), row.get("beside", []), row.get("beside_sides", []), strict=True
        )
        for unit, measured, sides in numbers:
            if unit == must_show.RATIO:
                first, second = sides.values()
                assert measured == pytest.approx(first / second, rel=0.02), row["row"]


def test_what_was_not_measured_is_missing_not_met() -> None:
    rows = must_show.build({})["rows"]
    assert len(rows) == 12
    assert all(row["met"] is None and "not measured" in row["missing"] for row in rows)


def test_tokens_are_equal_from_where_they_stay_so() -> None:
    figure = {
        "token_length": 16,
        "curves": [
            curve("two-stage", [0.6, 0.8, 0.81, 0.82]),
            curve("quantised", [0.4, 0.799, 0.7, 0.819]),
        ],
    }
    (found,) = token_worth.build(figure)["analog_minus_quantised"]
    assert found["equal_from_db"] == 5.0  # equal at -5 dB too, but not at 0 dB
    assert found["widest"] == pytest.approx(0.001)
    assert [round(point["difference"], 3) for point in found["points"]] == [0.2, 0.001, 0.11, 0.001]


def test_budgets_count_both_stages() -> None:
    rows = {row["system"]: row for row in budgets.build(STUDIES["full"], Path("nowhere"))["systems"]}
    assert rows["two-stage"]["stage_1"] == {
        "steps": 1000,
        "clips": 32_000,
        "elapsed_s": None,
        "word_labels": True,
    }
    assert rows["two-stage"]["stage_2"]["questions_at_most"] == 300 * 8 * 4
    assert rows["two-stage"]["stage_2"]["elapsed_s"] is None
    assert rows["no-alignment"]["stage_1"]["clips"] == 0
    assert not rows["rung-length"]["stage_1"]["word_labels"]


def test_the_page_begins_with_what_is_not_shown(tmp_path: Path) -> None:
    for path in RESULTS.glob("*.json"):
        (tmp_path / path.name).write_text(path.read_text())
    write_page(tmp_path)
    page = (tmp_path / "README.md").read_text()
    titles = [line for line in page.splitlines() if line.startswith("## ")]
    assert titles[0] == "## What is not shown"
    assert page == (RESULTS / "README.md").read_text()  # made from these very files
    (tmp_path / "shipped_estimated.json").unlink()
    write_page(tmp_path)
    assert "With estimated gains nothing was measured" in (tmp_path / "README.md").read_text()
