"""The benchmark of the server under load runs and says what it found; its shape counts, not its speed."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.serving.__main__ import draw, read, rows, show, write
from tests.benchmarks.serving.row import Claim
from tests.e2e.conftest import ROOT

NAMES = ("offline", "captions", "fairness", "overload", "idle", "endings", "noop", "cost")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.benchmarks.serving", "--quick", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=560, check=False)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("bench") / "results" / "serving.json"
    done = run("--out", str(out), *(word for name in NAMES for word in ("--row", name)))
    assert done.returncode == 0, done.stderr
    return out, done.stdout


@pytest.mark.benchmark
def test_every_row_is_measured(results: tuple[Path, str]) -> None:
    out, shown = results
    report = json.loads(out.read_text())
    assert tuple(report["rows"]) == NAMES
    for name in NAMES:
        claims = rows()[name].claims(report["rows"][name]["found"])
        assert claims
        assert all(math.isfinite(claim.measured) for claim in claims), name
        assert name in shown
    assert (out.parent / "serving_cost.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.benchmark
def test_servers_are_compared_by_where_they_compute(tmp_path: Path) -> None:
    out = tmp_path / "devices.json"
    command = [sys.executable, "-m", "tests.benchmarks.serving.devices", "--without-gpu", "--rounds", "2"]
    sizes = ["--users", "1", "--users", "4", "--seconds", "0.5", "--out", str(out)]
    subprocess.run([*command, *sizes], cwd=ROOT, timeout=300, check=True)
    servers = json.loads(out.read_text())["servers"]
    assert set(servers) == {"processor", "one batch"}
    for asked in servers.values():
        assert [row["users"] for row in asked] == [1, 4]
        assert all(row["answered_hz"]["lower"] > 0 for row in asked)


@pytest.mark.benchmark
def test_what_does_not_depend_on_speed_holds_on_any_machine(results: tuple[Path, str]) -> None:
    found: dict[str, Any] = {
        name: row["found"] for name, row in json.loads(results[0].read_text())["rows"].items()
    }
    endings = rows()["endings"].claims(found["endings"])
    assert [claim.measured for claim in endings[:3]] == [0, 0, 0]
    assert found["endings"]["ends"]["invalid_argument"] > 0
    assert found["endings"]["ends"]["taken back"] > 0
    crowds = {kind: found["overload"][kind]["run"] for kind in ("obedient", "unruly")}
    for crowd in crowds.values():
        assert crowd["refusals"] > 0
        assert crowd["refusals_without_delay"] == 0
        assert set(crowd["outcomes"]) <= {"answered", "refused"}
    assert crowds["obedient"]["held_back"] > 0
    assert crowds["unruly"]["held_back"] == 0
    assert set(found["overload"]["patient"]["outcomes"]) == {"answered"}
    assert found["captions"]["caption_words"] > 10
    assert min(found["captions"]["captions_told"]) > 0
    assert found["fairness"]["not_answered"] == 0
    assert 0 < found["idle"]["session_bytes"] < 1_000_000
    assert found["noop"]["over_unary"]["median"] > 0.9


@pytest.mark.benchmark
def test_the_table_and_the_plots_come_from_the_results_alone(
    results: tuple[Path, str], tmp_path: Path
) -> None:
    report = read(results[0])
    report["rows"]["noop"]["found"]["over_unary"]["median"] = 12.5
    del report["rows"]["idle"]
    out = tmp_path / "serving.json"
    write(out, report)
    done = run("--show", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "12.5" in done.stdout
    assert "not measured" in done.stdout
    assert read(out) == report
    pictures = draw(report, out)
    assert pictures == [tmp_path / "serving_cost.png"]


def test_a_claim_is_met_on_its_side_of_the_limit() -> None:
    assert Claim("x", "at most", 2.0, 2.0).met
    assert not Claim("x", "at most", 2.0, 2.1).met
    assert Claim("x", "at least", 0.85, 0.9).met
    assert not Claim("x", "at least", 0.85, 0.8).met
    assert not Claim("x", "at most", 2.0, math.nan).met


def test_nothing_measured_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from rich.console import Console

    out = tmp_path / "none.json"
    show(read(out), out, Console(width=150))
    assert capsys.readouterr().out.count("not measured") >= len(rows())
