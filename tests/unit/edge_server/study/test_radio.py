"""The study of the radio: beside Sionna, and what spoils a link does to answers; small."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from device_agent.channel import ChannelConfig
from edge_server.data.soundstage.dataset import generate
from edge_server.study.cli import app
from edge_server.study.plots import radio as radio_plot
from edge_server.study.radio import bit_errors, report
from edge_server.study.radio import told as told_in_two_ways
from edge_server.study.radio.tuned import RADIOS, TAPPED, USUAL
from tests.closed_forms import EBN0_TO_SNR_DB, rayleigh_bit_error_rate

MODEL = Path(__file__).parents[4] / "deploy" / "models" / "soundstage-small"


@pytest.mark.parametrize("who", [bit_errors.ours, bit_errors.sionnas])
def test_known_gains_of_a_scattered_profile_give_rayleighs_bit_errors(who: object) -> None:
    """However selective: of each subcarrier the gain is CN(0, 1)."""
    if who is bit_errors.sionnas:
        pytest.importorskip("sionna.phy")
    config = ChannelConfig(model="tdl_a", snr_db=10.0, bandwidth_hz=bit_errors.SUBCARRIERS * 15e3)
    rate = who(config, 1500, 1, lambda done: None)  # type: ignore[operator]
    assert rate == pytest.approx(rayleigh_bit_error_rate(10.0 - EBN0_TO_SNR_DB), rel=0.08)


def test_decibels_between_two_curves() -> None:
    """A curve that is 1 dB to the right needs 1 dB more; what lies beyond it is left out."""
    snrs_db = [0.0, 10.0, 20.0]
    theirs = [10.0 ** (-snr_db / 10.0) for snr_db in snrs_db]
    ours = [rate * 10.0**0.1 for rate in theirs]
    assert bit_errors.more_db(snrs_db, ours, theirs) == pytest.approx([1.0, 1.0])


def test_both_trainings_take_every_channel_that_the_shipped_one_took() -> None:
    for radio in RADIOS.values():
        assert sum(odds for *_, odds in radio.odds) == pytest.approx(1.0)
    names = {name for name, *_ in RADIOS[TAPPED].odds}
    assert names >= {name for name, *_ in RADIOS[USUAL].odds} | {"tdl_c"}


def test_what_is_promised_is_judged_by_the_worst_point() -> None:
    rows = [{"csi": "estimated", "more_db": [0.1, -0.6]}, {"csi": "perfect", "more_db": [9.0]}]
    gained = [{"model": "tdl_c", "points": -1.0}, {"model": "awgn", "points": 5.0}]
    told = {
        "gained": told_in_two_ways.gained([{"accuracy": 0.5}] * 2, [{"accuracy": 0.4}, {"accuracy": 0.7}])
    }
    commits = {"bit_errors": "a", "told": "b"}
    errors, trained, each = report.kept(
        {"bit_errors": rows, "gains": gained, "told": told, "commits": commits}
    )
    assert (errors["commit"], trained.get("commit"), each["commit"]) == ("a", None, "b")
    assert each["measured"] == "+5.00 ± 15.00 points"
    assert each["why"], "within its error it is no gain"
    assert errors["met"] is False
    assert errors["measured"].startswith("-0.60 to +0.10 dB")
    assert trained["measured"].startswith("-1.0 points")
    assert trained["why"]


def test_what_was_trained_with_and_without_is_a_figure() -> None:
    over = {"model": "tdl_c", "csi": "perfect", "speed_kmh": 3.0}
    rows = [
        {**over, "part": part, "snr_db": snr_db, "csi_age_ms": 0.0, "sir_db": 0.0, "accuracy": 0.5}
        for part in ("tapped", "aged", "shared")
        for snr_db in (0.0, 10.0)
    ]
    without, with_it = (
        radio_plot.draw({"answers": rows, **tuned})
        for tuned in ({}, {"tuned": {USUAL: rows, TAPPED: [{**row, "accuracy": 0.7} for row in rows]}})
    )
    assert (len(without.axes), len(with_it.axes)) == (3, 4)
    usual, tapped = with_it.axes[3].lines
    assert set(np.asarray(usual.get_ydata())) == {0.5}
    assert set(np.asarray(tapped.get_ydata())) == {0.7}
    assert str(tapped.get_label()).startswith(TAPPED)


def test_a_small_study_from_nothing_to_the_page(tmp_path: Path) -> None:
    pytest.importorskip("sionna.phy")
    generate(tmp_path / "data", "test", 6, 1, 1)
    out = tmp_path / "out"
    asked = ["radio", "--quick", "--model", str(MODEL), "--data", str(tmp_path / "data"), "--out", str(out)]
    ran = CliRunner().invoke(app, [*asked, "--runs", str(tmp_path / "runs")], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    found = json.loads((out / "radio.json").read_text())
    assert {row["part"] for row in found["answers"]} == {"tapped", "aged", "clipped", "shared"}
    assert 0.5 < found["told"]["spread_db"] < 5.0
    assert {way: rows[0]["snr_per"] for way, rows in found["told"]["shipped"].items()} == {
        "block": "block",
        "token": "token",
    }
    assert all(0.0 <= row["accuracy"] <= 1.0 for row in found["answers"])
    assert 5.0 < found["peaks"]["scrambled"]["median_db"] < found["peaks"]["as_they_are"]["median_db"]
    assert (out / "radio.png").exists()
    page = (out / "README.md").read_text()
    assert "| TDL-A | 3 km/h | estimated |" in page
    assert "a neighbour, SIR 0 dB, Rayleigh, block" in page
    assert "| 0 dB, 3 km/h, known |" in page
