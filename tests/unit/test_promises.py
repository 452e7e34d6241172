"""The table of promises: read from results alone, no ratio without its sides, old rows marked."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.promises import __main__ as program
from tests.benchmarks.promises import security_page
from tests.benchmarks.promises.gather import gather
from tests.benchmarks.promises.history import History
from tests.benchmarks.promises.row import RATIO, is_defined
from tests.benchmarks.promises.sources import open_promises

RESULTS = Path(__file__).parents[2] / "docs/results"
AREAS = {
    "chaos",
    "house",
    "faults",
    "hostile",
    "models",
    "claims",
    "cotrain",
    "cell",
    "scenes",
    "cluster",
    "serving",
    "link",
    "device",
}
SETTLED = {"area": "scenes", "what": "What search and scenes reveal across users"}


def committed() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((RESULTS / "promises.json").read_text())
    return rows


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=x", "-c", "user.email=x@example.com")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with a result that settles a promise, and the code that it measures."""
    git(tmp_path, "init", "--quiet")
    results = tmp_path / "docs/results"
    results.mkdir(parents=True)
    (tmp_path / "scenes.py").write_text("1")
    report = {
        "command": "edge-server study scenes",
        "measures": ["scenes.py"],
        "promises": [{"what": SETTLED["what"], "measured": 0, "met": True}],
    }
    (results / "scenes.json").write_text(json.dumps(report))
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    return tmp_path


def settled(checkout: Path) -> dict[str, Any]:
    results = checkout / "docs/results"
    (row,) = [r for r in gather(results, History(results)) if r.what == SETTLED["what"]]
    return row.to_json()


def rewrite(checkout: Path, **row: Any) -> None:
    path = checkout / "docs/results/scenes.json"
    report = json.loads(path.read_text())
    report["promises"][0] |= row
    path.write_text(json.dumps(report))


def test_the_committed_table_says_what_the_results_say() -> None:
    """Run ``make promises`` where this fails: a result has changed since."""
    ours = [row.to_json() for row in gather(RESULTS, History(RESULTS))]
    found = [{k: v for k, v in row.items() if k not in ("commit", "stale")} for row in ours]
    told = [{k: v for k, v in row.items() if k not in ("commit", "stale")} for row in committed()]
    assert found == told


def test_the_security_page_says_what_the_results_say() -> None:
    """Run ``make promises`` where this fails."""
    page = security_page.PAGE.read_text(encoding="utf-8")
    assert page.count(security_page.BEGIN) == page.count(security_page.END) == 1
    assert page == security_page.with_table(page, committed())


def test_every_figure_comes_from_a_file_that_a_command_wrote() -> None:
    rows = committed()
    assert {row["area"] for row in rows} == AREAS
    for row in rows:
        assert row["what"], row
        if row["measured"] is None and row["met"] is None and row["why"] is None:
            assert (row["command"], row["commit"], row["files"]) == (None, None, []), row["what"]
        else:
            assert row["command"], row["what"]
            assert row["files"], row["what"]
            assert all((RESULTS / f"{file}.json").exists() for file in row["files"]), row["what"]
        if row["met"] is not None:
            assert row["measured"] is not None, row["what"]


def test_every_ratio_has_its_two_sides() -> None:
    ratios = [row for row in committed() if row["unit"] == RATIO and row["met"] is not None]
    assert len(ratios) > 10
    for row in ratios:
        assert is_defined(row["sides"]), row["what"]
        first, second = row["sides"].values()
        # The median of ratios, turn by turn, is near the ratio of the medians.
        assert row["measured"] == pytest.approx(first / second, rel=0.15), row["what"]
    # What is said to be over something else is a ratio, and is held to the above.
    for row in committed():
        if isinstance(row["measured"], float) and row["met"] is not None and " over " in f" {row['what']} ":
            assert row["unit"] == RATIO or "mean over SNR" in row["what"], row["what"]


def test_no_promise_is_made_twice() -> None:
    names = [(row["area"], row["what"], row["asked"]) for row in committed()]
    assert len(names) == len(set(names))


def test_a_result_settles_what_was_promised(checkout: Path) -> None:
    row = settled(checkout)
    assert (row["measured"], row["met"], row["command"]) == (0, True, "edge-server study scenes")
    assert row["commit"] == git(checkout, "rev-parse", "HEAD")
    assert row["stale"] is False


def test_a_row_older_than_the_code_that_it_measures_is_marked(checkout: Path) -> None:
    (checkout / "other.py").write_text("1")
    git(checkout, "add", "--all")
    git(checkout, "commit", "--quiet", "--message", "elsewhere")
    assert settled(checkout)["stale"] is False
    (checkout / "scenes.py").write_text("2")
    git(checkout, "commit", "--quiet", "--all", "--message", "later")
    assert settled(checkout)["stale"] is True


def test_a_shallow_clone_does_not_know_what_is_old(checkout: Path, tmp_path: Path) -> None:
    (checkout / "scenes.py").write_text("2")
    git(checkout, "commit", "--quiet", "--all", "--message", "later")
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{checkout}", "shallow")
    row = settled(tmp_path / "shallow")
    assert (row["met"], row["commit"], row["stale"]) == (True, None, None)


def test_a_ratio_without_two_sides_meets_nothing(checkout: Path) -> None:
    rewrite(checkout, measured=0.5, unit=RATIO, sides={"few": 1.0, "none": 0.0})
    row = settled(checkout)
    assert (row["met"], row["measured"]) == (None, None)
    assert row["why"] == "a ratio without two sides"
    rewrite(checkout, measured=0.5, sides={"few": 1.0, "many": 2.0})
    assert settled(checkout)["met"] is True


def test_what_was_never_promised_is_refused(checkout: Path) -> None:
    rewrite(checkout, what="that it is fast")
    with pytest.raises(ValueError, match=r"scenes\.json: 'that it is fast' was never promised"):
        settled(checkout)


def test_another_bound_on_a_measured_number_needs_no_second_measurement() -> None:
    rows = {row["what"]: row for row in committed()}
    bounds = [promised for promised in open_promises() if promised.measured_by is not None]
    assert bounds
    for promised in bounds:
        row, source = rows[promised.row.what], rows[str(promised.measured_by)]
        assert row["measured"] == source["measured"] is not None
        assert row["met"] is (promised.at_least <= row["measured"] <= promised.at_most)


def test_the_table_is_printed_and_written(
    checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "table.json"
    program.main(["--results", str(checkout / "docs/results"), "--out", str(out)])
    rows = json.loads(out.read_text())
    printed = capsys.readouterr().out
    assert f"{len(rows)} promises: 1 met, 0 not" in printed
    assert "edge-server study scenes" in printed
