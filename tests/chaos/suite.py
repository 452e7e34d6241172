"""Promises that tests keep: runs them, and tells how many were kept, as a row of the table."""

from __future__ import annotations

import asyncio
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Verdicts:
    """What became of the tests.

    Attributes:
        seconds: of each that passed, by name.
        failed: names of those that did not.
        skipped: names of those that were not run, with the reason.
    """

    seconds: dict[str, float]
    failed: list[str]
    skipped: dict[str, str]


async def run_tests(paths: Sequence[str], folder: Path, *more: str) -> Verdicts:
    """Run tests in a process of their own.

    Args:
        paths: from the root of the repository.
        folder: for the report and the tests' own files.
        more: further arguments of pytest.
    """
    report = folder / "report.xml"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"),
        *(f"--basetemp={folder / 'tests'}", *more, *paths),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    if not report.exists():
        return Verdicts({}, [out.decode(errors="replace")[-2000:]], {})
    return read_report(report)


def read_report(report: Path) -> Verdicts:
    """What pytest wrote about its tests, as JUnit XML."""
    seconds: dict[str, float] = {}
    failed: list[str] = []
    skipped: dict[str, str] = {}
    for case in ET.parse(report).iter("testcase"):
        name = f"{case.get('classname', '').removeprefix('tests.')}::{case.get('name')}"
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(name)
        elif skip is not None:
            skipped[name] = str(skip.get("message"))
        else:
            seconds[name] = float(case.get("time", "0"))
    return Verdicts(seconds, failed, skipped)
