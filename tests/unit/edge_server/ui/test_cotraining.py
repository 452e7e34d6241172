"""A round on the page: numbers of its devices, and nothing that a device could smuggle in."""

from __future__ import annotations

from typing import Any

from edge_server.ui.cotraining import round_of


def status() -> dict[str, Any]:
    row = {
        "connected": True,
        "steps": 12,
        "loss": 0.5,
        "right": 0.75,
        "examined": {"before": {"accuracy": 0.4}},
        "curve": [[0, 2.0, 0.1], [1, 1.0, 0.4], [2, 0.5, 0.75]],
    }
    return {
        "step": 12,
        "rounds": 300,
        "phase": "learning",
        "devices": {"<b>hall</b>": row},
        "named": {"<i>roof</i>": "it pulls against the others"},
    }


def test_a_round_is_shown_and_names_are_escaped() -> None:
    html = round_of(status())
    assert "Step 12 of 300: learning." in html
    for shown in ("0.500", "75%", "40.0%", "<svg", "it pulls against the others"):
        assert shown in html
    assert "<b>" not in html
    assert "<i>" not in html
    assert "&lt;b&gt;hall" in html


def test_a_file_that_is_no_status_is_said_to_be_none() -> None:
    for wrong in ({"devices": 3}, {**status(), "step": "x"}, {**status(), "devices": {"a": {}}}):
        assert "cannot be read" in round_of(wrong)
