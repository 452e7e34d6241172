"""What it takes to extend: in how many product files what exists is named, of each kind that can be added.

    python -m tests.benchmarks.house          a table, and docs/results/house.json

A file that names an existing one of a kind is a file that somebody touches who adds another; of engines and
sources, whose tests add one by registration alone, it is the registry. That one can be added so, and works
from end to end, is what ``tests/contract/test_extending_*.py`` show: they are run first, and nothing is
written where one fails.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from edge_server.model.provenance import current_commit
from tests.contract.test_extending_modality import LISTED
from tests.spelling import ROOT, files_that_list

RESULT = ROOT / "docs/results/house.json"
_FAMILY = "A new family takes one registration file"
_FAMILY_TESTS = (
    "test_a_family_that_is_registered_answers_as_its_own_class_does",
    "test_a_family_of_another_package_is_found_by_its_entry_point",
)
_MODALITY = "Product files that a new modality touches"


@dataclass(frozen=True)
class Kind:
    """A kind of thing that can be added.

    Attributes:
        what: the promise, as it was asked.
        files: product files that one touches, beside the new one that it is in.
        allowed: how many it may be.
    """

    what: str
    files: tuple[str, ...]
    allowed: int

    def to_json(self) -> dict[str, Any]:
        """As a promise that was measured."""
        return {"what": self.what, "measured": len(self.files), "met": len(self.files) <= self.allowed}


def kinds() -> tuple[Kind, ...]:
    """Each kind with the files that name what exists of it."""

    def named(what: str, *words: str, registered_in: str = "", allowed: int) -> Kind:
        found = files_that_list(*words) | ({registered_in} if registered_in else set())
        return Kind(f"Product files that a new {what} touches", tuple(sorted(found)), allowed)

    return (
        named("channel model", "rician", "Rician", allowed=1),
        named(
            "foundation class",
            *("qwen2", "llama", "mistral", "qwen3"),
            registered_in="edge_server/model/foundation_classes.py",
            allowed=1,
        ),
        Kind("Product files that a new engine touches", ("edge_server/engine/registry.py",), 1),
        Kind(_MODALITY, tuple(sorted(LISTED)), 15),
        Kind("Product files that a new source of clips touches", ("device_agent/sources/registry.py",), 1),
    )


def measure(out: Annotated[Path, typer.Option(help="Where the JSON goes.")] = RESULT) -> None:
    """Run the tests that add one of each kind, count files, write the result."""
    tests = sorted(str(path) for path in (ROOT / "tests/contract").glob("test_extending_*.py"))
    tests += [f"tests/unit/edge_server/export/test_families.py::{test}" for test in _FAMILY_TESTS]
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", *tests], cwd=ROOT, check=False)
    if done.returncode != 0:
        raise typer.Exit(done.returncode)
    found = kinds()
    table = Table("kind", "files", "allowed", "which")
    for kind in found:
        table.add_row(kind.what, str(len(kind.files)), str(kind.allowed), "\n".join(kind.files))
    Console().print(table)
    told = {
        "command": "python -m tests.benchmarks.house",
        "commit": current_commit(),
        "measures": ["protos", "device_agent", "edge_server"],
        "promises": [
            *(kind.to_json() for kind in found),
            {
                "what": _FAMILY,
                "measured": f"added by {len(_FAMILY_TESTS)} tests, {_FAMILY_TESTS[0]}",
                "met": True,
            },
        ],
        "files": {kind.what: list(kind.files) for kind in found},
    }
    out.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(measure)
