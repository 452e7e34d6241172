"""Loss over SNR and token length: the fit finds what made the points, falls, and says its error."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_server.cell.allocation import LossFit, LossPoint, LossSurface, LossTable, points_of_study

RESULTS = Path(__file__).resolve().parents[5] / "docs" / "results"
SNRS_DB = (-10.0, -5.0, 0.0, 5.0, 10.0, 20.0)


@pytest.fixture(scope="module")
def points() -> list[LossPoint]:
    return points_of_study(RESULTS)


@pytest.fixture(scope="module")
def surfaces(points: list[LossPoint]) -> tuple[LossSurface, LossSurface]:
    return LossFit.of(points), LossTable(points)


def made_by(fit: LossFit, snrs_db: tuple[float, ...] = SNRS_DB) -> list[LossPoint]:
    return [
        LossPoint(snr_db, length, float(fit.at(10.0 ** (snr_db / 10.0), length)))
        for snr_db in snrs_db
        for length in (1, 2, 4, 8, 16, 32)
    ]


def test_the_fit_finds_the_formula_that_made_the_points() -> None:
    truth = LossFit(a=0.15, b=0.3, p=0.8, c=0.03, d=0.5)
    found = LossFit.of(made_by(truth))
    assert found.rms_error < 1e-3
    assert (found.a, found.b, found.c) == pytest.approx((0.15, 0.3, 0.03), abs=0.01)
    assert (found.p, found.d) == pytest.approx((0.8, 0.5), rel=0.1)


def test_points_that_rise_with_tokens_give_a_fit_that_does_not() -> None:
    rising = [LossPoint(snr, length, 0.2 + 0.01 * length) for snr in SNRS_DB for length in (1, 8, 16)]
    found = LossFit.of(rising)
    assert (found.b, found.c) == (0.0, 0.0)
    assert found.a == pytest.approx(np.mean([point.loss for point in rising]))
    assert found.max_error == pytest.approx(max(abs(point.loss - found.a) for point in rising))


def test_the_fit_of_the_study_states_how_far_off_it_is(points: list[LossPoint]) -> None:
    found = LossFit.of(points)
    off = [abs(float(found.at(10.0 ** (p.snr_db / 10.0), p.token_length)) - p.loss) for p in points]
    assert found.max_error == pytest.approx(max(off))
    assert found.rms_error == pytest.approx(np.sqrt(np.mean(np.square(off))))
    assert found.rms_error < 0.02
    assert found.max_error < 0.04


@given(
    snrs_db=st.tuples(st.floats(-25.0, 40.0), st.floats(-25.0, 40.0)),
    lengths=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    tabled=st.booleans(),
)
def test_more_signal_and_more_tokens_never_lose_more(
    surfaces: tuple[LossSurface, LossSurface],
    snrs_db: tuple[float, float],
    lengths: tuple[int, int],
    tabled: bool,
) -> None:
    surface = surfaces[tabled]
    worse, better = sorted(snrs_db)
    short, long = sorted(lengths)
    lost = surface.at(10.0 ** (np.array([worse, better]) / 10.0), [short, long])
    assert lost[1] <= lost[0] + 1e-12


def test_a_table_gives_back_monotone_points_and_what_lies_between() -> None:
    table = LossTable(made_by(LossFit(a=0.1, b=0.4, p=1.0, c=0.02, d=0.7)))
    assert (table.filled, table.max_error) == (0, 0.0)
    at_points = table.at(10.0 ** (np.array(SNRS_DB) / 10.0), 8)
    assert at_points == pytest.approx(
        [p.loss for p in made_by(LossFit(0.1, 0.4, 1.0, 0.02, 0.7)) if p.token_length == 8]
    )
    between = float(table.at(10.0**0.25, 8))  # 2.5 dB, halfway in dB
    assert between == pytest.approx((at_points[2] + at_points[3]) / 2.0)


def test_a_table_stays_at_its_edges() -> None:
    table = LossTable(made_by(LossFit(a=0.1, b=0.4, p=1.0, c=0.02, d=0.7)))
    assert float(table.at(1e-9, 1)) == float(table.at(0.1, 1))
    assert float(table.at(1e9, 64)) == float(table.at(100.0, 32))


def test_a_table_fills_its_holes(points: list[LossPoint]) -> None:
    table = LossTable(points)
    assert table.filled == len(table.snrs_db) * len(table.token_lengths) - len(points)
    assert 0.0 < table.max_error < 0.03
    assert np.isfinite(table.loss_SL).all()


def test_one_snr_or_one_length_tells_no_shape() -> None:
    with pytest.raises(ValueError, match="two SNRs"):
        LossFit.of([LossPoint(0.0, 1, 0.5), LossPoint(0.0, 2, 0.4)])
    with pytest.raises(ValueError, match="two token lengths"):
        LossFit.of([LossPoint(0.0, 2, 0.5), LossPoint(5.0, 2, 0.4)])
    with pytest.raises(ValueError, match="monotone"):
        LossFit(a=0.1, b=-0.1, p=1.0, c=0.0, d=1.0)


def test_points_are_what_the_study_measured(points: list[LossPoint]) -> None:
    curves = json.loads((RESULTS / "token_length.json").read_text())["curves"]
    curve = next(c for c in curves if (c["system"], c["snr_db"]) == ("two-stage", 0.0))
    measured = {p["token_length"]: 1.0 - p["accuracy"]["mean"] for p in curve["points"]}
    found = {p.token_length: p.loss for p in points if p.snr_db == 0.0}
    assert found[1] == pytest.approx(measured[1])
    assert {p.snr_db for p in points} >= {-10.0, 20.0}


def test_of_what_the_study_has_not_nothing_is_made_up(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'three-stage'"):
        points_of_study(RESULTS, system="three-stage")
    (tmp_path / "accuracy_snr.json").write_text("[]")
    with pytest.raises(ValueError, match=r"accuracy_snr\.json: not a result"):
        points_of_study(tmp_path)
