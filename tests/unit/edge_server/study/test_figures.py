"""Figures' arithmetic, on numbers that can be worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from edge_server.study.figures import must_show
from edge_server.study.figures.ablation import CHANGES
from edge_server.study.figures.ablation import build as build_ablation
from edge_server.study.figures.alignment_seen import retrieval
from edge_server.study.figures.answers import Answers, paired_difference, spread
from edge_server.study.figures.convergence import rounds_to
from edge_server.study.figures.question_size import least_bits
from edge_server.study.figures.token_length import front
from edge_server.study.study import SNRS_DB
from edge_server.training.systems import LADDER


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
    rows = verdicts({"accuracy_snr": figure})
    gain = rows["Two-stage minus no alignment, mean over SNR, at the paper's budget"]
    assert gain["met"]
    assert gain["measured"] == pytest.approx(0.2825)
    digital = next(row for name, row in rows.items() if "digital separate coding" in name)
    assert not digital["met"]  # 0.11 at 0 dB
    assert digital["measured"] == pytest.approx(0.11)
    assert not rows["Two-stage minus authors' scheme, mean over SNR"]["met"]
    graceful = next(row for name, row in rows.items() if "5 dB less" in name)
    assert graceful["met"]  # what -10 dB costs is not asked
    assert graceful["measured"] == pytest.approx(0.01)


def test_what_was_not_measured_is_missing_not_met() -> None:
    rows = must_show.build({})["rows"]
    assert len(rows) == 10
    assert all(row["met"] is None and "not measured" in row["missing"] for row in rows)
