"""Sections and figures about other words and about what a model is not sure of say what the reports say."""

from __future__ import annotations

from typing import Any

from edge_server.data.soundstage.validation_wordings import LEARNED
from edge_server.study.plots import out_of_domain as kinds_plot
from edge_server.study.plots import wordings as wordings_plot
from edge_server.study.report import honesty

WORDINGS: dict[str, Any] = {
    "model": "m",
    "snr_db": 10.0,
    "questions": {"held out": 6, "demo": 2},
    "mean_lost": 0.125,
    "most_lost": 0.125,
    "rows": [
        {"wording": "plain", "accuracy": 1.0, "lost": 0.0, "example": "Where?", "right": {}},
        {"wording": "polite", "accuracy": 0.875, "lost": 0.125, "example": "Sir | where?\n", "right": {}},
    ],
}
OUTSIDE: dict[str, Any] = {
    "model": "m",
    "asked": 20,
    "abstained": 0.95,
    "abstained_of_unseen_kinds": 0.9,
    "in_domain_lost": 0.025,
    "expected_calibration_error": 0.0123,
    "kinds": {
        "arithmetic": {"asked": 10, "share": 0.9, "example": "1 + 1 =", "seen_in_training": False},
        "missing media": {"asked": 10, "share": 1.0, "example": "Where?", "seen_in_training": True},
    },
    "in_domain": [
        {
            "snr_db": 0.0,
            "reworded": True,
            "accuracy": 0.9,
            "abstained": 0.05,
            "accuracy_of_the_others": 0.92,
            "expected_calibration_error": 0.02,
        }
    ],
    "reliability": [{"confidence": 0.4, "accuracy": 0.5}, {"confidence": 0.9, "accuracy": 0.91}],
}


def test_the_page_tells_what_each_wording_loses() -> None:
    told = honesty.wordings({"wordings": WORDINGS})
    assert "| polite | 87.5 % | 12.5 points | `Sir / where? ` |" in told
    assert "6 held out and 2 demo questions" in told


def test_the_page_tells_what_was_tried_and_what_the_chosen_way_does() -> None:
    shipped = {
        "way": "as shipped",
        "share": 0.0,
        "asked": 9,
        "accuracy": 0.9,
        "mean_lost": 0.1,
        "most_lost": 0.2,
    }
    lost = {"words before": 0.0, "new sentences": 0.2, LEARNED: 0.3}
    way = {**shipped, "way": "further", "share": 0.5, "most_lost": 0.05, "steps": 4, "cpu_s": 12.3}
    judged = {"plain": {"10": 0.95}, "lost": {"polite": 0.03}, "mean_lost": 0.03, "most_lost": 0.03}
    outside = {"abstained": 0.91, "in_domain_lost": 0.02, "expected_calibration_error": 0.0123}
    report: dict[str, Any] = {
        "model": "m",
        "clips": 7,
        "validation": [{**shipped, "lost": lost}, {**way, "lost": lost}],
        "chosen": {"way": "further", "share": 0.5},
    }
    told = honesty.wordings({"wordings": WORDINGS, "wording_ways": report})
    assert "learned on from 7 clips" in told
    assert "by 9 questions of the validation split in 2 wordings" in told
    assert "| **further** | 0.5 | 4 | 12 | 90.0 % | 10.0 points | 5.0 points (new sentences) |" in told
    assert "as shipped |  |" in told
    assert "asked once" not in told
    assert "None was asked about the test split" in told
    report["test"] = [{**shipped, **judged, **outside, "abstained": 0.95}, {**way, **judged, **outside}]
    told = honesty.wordings({"wordings": WORDINGS, "wording_ways": report})
    assert "None was asked" not in told
    assert "| not sure of what it cannot know | 95.0 % | 91.0 % |" in told
    assert "| plain, 10 dB | 95.0 % | 95.0 % |" in told
    assert "| lost: polite | 3.0 points | 3.0 points |" in told
    del report["test"][1]["plain"]
    assert "plain, 10 dB" not in honesty.wordings({"wordings": WORDINGS, "wording_ways": report})


def test_the_page_tells_what_the_model_is_not_sure_of() -> None:
    told = honesty.out_of_domain({"out_of_domain": OUTSIDE})
    assert "not sure of 95.0 % of 20 questions that it cannot know (90.0 % of kinds" in told
    assert "| missing media (training knows this kind) | 10 | 100.0 % | `Where?` |" in told
    assert "| 0 dB, reworded | 90.0 % | 5.0 % | 92.0 % | 0.020 |" in told


def test_both_are_drawn() -> None:
    (bars,) = wordings_plot.draw(WORDINGS).axes
    assert [patch.get_width() for patch in bars.patches] == [100.0, 87.5]
    kinds, curve = kinds_plot.draw(OUTSIDE).axes
    assert [round(patch.get_width(), 1) for patch in kinds.patches] == [90.0, 100.0, 2.5]
    assert list(curve.lines[1].get_xdata()) == [0.4, 0.9]  # type: ignore[arg-type]
