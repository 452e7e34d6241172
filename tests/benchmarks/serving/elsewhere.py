"""Rows that programs of their own measure: run as processes, read from the results that they write.

Each is there if its module is.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.serving.row import Claim, Context


@dataclass(frozen=True)
class Line:
    """A line of the table.

    Attributes:
        what: is promised.
        asked: the bound, in words.
        measured: the number, in words.
        met: None where that is not known.
    """

    what: str
    asked: str
    measured: str
    met: bool | None

    @classmethod
    def of(cls, claim: Claim) -> Line:
        """A claim in words."""
        unit = f" {claim.unit}" if claim.unit else ""
        asked = f"{claim.sense} {claim.limit:g}{unit}"
        return cls(claim.text, asked, f"{claim.measured:.3g}{unit}", claim.met)


@dataclass(frozen=True)
class Program:
    """A benchmark with a command of its own.

    Attributes:
        name: of its rows.
        module: run as ``python -m``, with ``--model`` and ``--out``.
        lines: of the table, from the JSON that it writes.
    """

    name: str
    module: str
    lines: Callable[[Mapping[str, Any]], Sequence[Line]]

    @property
    def there(self) -> bool:
        """Whether the module exists."""
        return importlib.util.find_spec(self.module) is not None

    def results(self, out: Path) -> Path:
        """Where it writes, beside the results of the rows here."""
        return out.with_name(f"{self.module.rpartition('.')[2]}.json")

    def run(self, context: Context, out: Path) -> None:
        """Run it to its end; it says itself what went wrong."""
        command = [sys.executable, "-m", self.module, "--model", str(context.model)]
        subprocess.run([*command, "--out", str(self.results(out))], check=False)

    def read(self, out: Path) -> Sequence[Line] | None:
        """Its lines; None where it has not been run."""
        path = self.results(out)
        return self.lines(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def _peers(report: Mapping[str, Any]) -> list[Line]:
    rows = importlib.import_module("tests.benchmarks.peers").rows(report)
    return [Line(row["row"], row["asked"], _numbers(row.get("measured", {})), row["met"]) for row in rows]


def _numbers(by_workload: Mapping[str, float]) -> str:
    return ", ".join(f"{workload} {ratio:.3g}" for workload, ratio in by_workload.items())


def _forward_pass(report: Mapping[str, Any]) -> list[Line]:
    ratio = report["batches"]["mixed"]["prefill"]["ratio"]["median"]
    what = f"Prefill of {report['prompts']} mixed-length prompts: times faster than Hugging Face with padding"
    return [Line.of(Claim(what, "at least", report["asked"]["mixed_prefill_ratio"], ratio))]


PROGRAMS = (
    Program("forward", "tests.benchmarks.forward_pass", _forward_pass),
    Program("peers", "tests.benchmarks.peers", _peers),
)
