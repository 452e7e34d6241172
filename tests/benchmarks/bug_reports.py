"""Bug reports of comparable projects that were tried here: the tests that keep them, run and counted.

python -m tests.benchmarks.bug_reports            into docs/results/bug_reports.json

The list is tests/bug_reports.toml.
"""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_server.model.provenance import current_commit
from tests.benchmarks.newcomers import ROOT, is_right, outcome

LIST = ROOT / "tests" / "bug_reports.toml"
RESULT = ROOT / "docs" / "results" / "bug_reports.json"
KEPT = ("held", "mended")
"""Outcomes that a test keeps so."""
OUTCOMES = (*KEPT, "not_mended", "does_not_apply")
WANTED = 30
_PROMISED = "Further bug reports of comparable projects, tried one by one"


@dataclass(frozen=True)
class Report:
    """A bug report of another project.

    Attributes:
        project: as ``owner/name``.
        number: of the issue, or of the pull request that describes it.
        symptom: what its reporter saw.
        outcome: what came of it here; one of :data:`OUTCOMES`.
        test: what keeps it so, as pytest names it; empty: nothing.
    """

    project: str
    number: int
    symptom: str
    outcome: str
    test: str = ""

    @property
    def name(self) -> str:
        """``owner/name#number``."""
        return f"{self.project}#{self.number}"


def read_reports(path: Path = LIST) -> list[Report]:
    """The list.

    Raises:
        TypeError: an entry lacks something, or has something else.
    """
    found = tomllib.loads(path.read_text(encoding="utf-8"))
    return [Report(**entry) for entry in found["report"]]


def counted(reports: Sequence[Report]) -> str:
    """How many were tried, and what came of them."""
    of = Counter(report.outcome for report in reports)
    apart = of["does_not_apply"]
    tried = len(reports) - apart
    told = f"{tried} tried: {of['held']} held, {of['mended']} mended, {of['not_mended']} not mended"
    return f"{told}; {apart} does not apply" if apart else told


def measure(out: Annotated[Path, typer.Option(help="Where the JSON goes.")] = RESULT) -> None:
    """Run the tests that keep what was tried; write what came of them."""
    reports = read_reports()
    of = Counter(report.outcome for report in reports)
    tests = sorted({report.test for report in reports if report.outcome in KEPT})
    found = outcome("-m", "slow or not slow", *tests)
    enough = len(reports) - of["does_not_apply"] >= WANTED
    told: dict[str, Any] = {
        "command": "python -m tests.benchmarks.bug_reports",
        "commit": current_commit(),
        "measures": [str(LIST.relative_to(ROOT))],
        "promises": [
            {
                "what": _PROMISED,
                "measured": counted(reports),
                "met": enough and not of["not_mended"] and is_right(found),
            }
        ],
        "tests": {"named": len(tests), **found},
        "reports": {report.name: report.outcome for report in reports},
    }
    out.write_text(json.dumps(told, indent=2) + "\n")
    typer.echo(json.dumps({name: told[name] for name in ("promises", "tests")}, indent=2))


if __name__ == "__main__":
    typer.run(measure)
