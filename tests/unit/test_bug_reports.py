"""Bug reports of comparable projects: a list that is complete, without doubles, each kept by a test."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from tests.benchmarks.bug_reports import KEPT, OUTCOMES, WANTED, Report, counted, read_reports

ROOT = Path(__file__).parents[2]
REPORTS = read_reports()


def names_in(path: Path) -> set[str]:
    """Names of the tests of a file, of those in classes with the class before them."""

    def within(nodes: list[ast.stmt], before: str) -> set[str]:
        found = set()
        for node in nodes:
            if isinstance(node, ast.ClassDef):
                found |= within(node.body, f"{before}{node.name}::")
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found.add(before + node.name)
        return found

    return within(ast.parse(path.read_text(encoding="utf-8")).body, "")


def test_enough_were_tried_and_none_twice() -> None:
    names = Counter(report.name for report in REPORTS)
    assert [name for name, times in names.items() if times > 1] == []
    assert sum(report.outcome != "does_not_apply" for report in REPORTS) >= WANTED
    assert len({report.symptom for report in REPORTS}) == len(REPORTS)


@pytest.mark.parametrize("report", REPORTS, ids=[report.name for report in REPORTS])
def test_a_report_is_complete_and_kept_by_a_test(report: Report) -> None:
    assert report.project.count("/") == 1
    assert report.number > 0
    assert report.symptom.endswith(".")
    assert len(report.symptom) > 20
    assert report.outcome in OUTCOMES
    if report.outcome in KEPT:
        path, _, name = report.test.partition("::")
        assert name in names_in(ROOT / path), f"{report.test} is not there"


def test_what_is_not_mended_is_counted() -> None:
    reports = [
        Report("a/b", 1, "It breaks.", "held", "x"),
        Report("a/b", 2, "It breaks too.", "mended", "x"),
        Report("a/b", 3, "It is something else.", "does_not_apply", ""),
        Report("a/b", 4, "It stays broken.", "not_mended", ""),
    ]
    assert counted(reports) == "3 tried: 1 held, 1 mended, 1 not mended; 1 does not apply"
