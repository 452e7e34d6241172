"""The whole API description against a running server, by schemathesis."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.chaos.row import Row, Scale, exactly
from tests.chaos.watched import ROOT, WatchedServer

CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    *("response_headers_conformance", "response_schema_conformance", "negative_data_rejection"),
    *("unsupported_method", "allow_header_conformance", "refusals_name_their_field"),
)
"""Not positive_data_acceptance: that a question is not blank, and base64 holds a picture, no schema says."""

ARGUMENTS: Mapping[Scale, Sequence[str]] = MappingProxyType(
    {
        "test": ("--phases", "coverage,fuzzing", "--max-examples", "5"),
        "quick": ("--phases", "coverage,fuzzing", "--max-examples", "20"),
        "full": ("--phases", "coverage,fuzzing,stateful", "--max-examples", "2000"),
    }
)
_WITHIN_S = 1800


@dataclass(frozen=True)
class Tested:
    """What schemathesis says.

    Attributes:
        operations: of the description.
        tested: of these.
        cases: requests that were sent.
        failures: what was not as described.
        unresolved: references of the description that lead nowhere.
        text: its own report.
    """

    operations: int
    tested: int
    cases: int
    failures: Sequence[Mapping[str, Any]]
    unresolved: int
    text: str


def schemathesis(description: str, folder: Path, arguments: Sequence[str]) -> Tested:
    """Run it.

    Args:
        description: URL of an OpenAPI document.
        folder: for its report.
        arguments: further ones.

    Raises:
        RuntimeError: it did not come to an end.
    """
    report = folder / "schemathesis.json"
    command = [sys.executable, "-m", "schemathesis.cli", "run", description, "--continue-on-failure"]
    options = ["--checks", ",".join(CHECKS), "--request-timeout", "20", "--seed", "1"]
    done = subprocess.run(
        [*command, *options, "--report", "json", "--report-json-path", str(report), *arguments],
        cwd=folder,  # where it keeps notes of its own
        env=os.environ
        | {"SCHEMATHESIS_HOOKS": "tests.chaos.openapi_checks", "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=_WITHIN_S,
        check=False,
    )
    if not report.exists():
        raise RuntimeError(f"schemathesis: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    said = json.loads(report.read_text(encoding="utf-8"))
    if not said["complete"]:
        raise RuntimeError(f"schemathesis was cut: {done.stdout[-2000:]}")
    return Tested(
        operations=said["operations"]["total"],
        tested=said["operations"]["tested"],
        cases=said["test_cases"]["generated"],
        failures=[*said["failures"], *said["errors"]],
        unresolved=len(said["warnings"]["unresolvable_reference"]),
        text=done.stdout,
    )


async def run(scale: Scale, folder: Path) -> Row:
    """Every operation of the description, in so many requests."""
    with WatchedServer({"max_new_tokens": 64}) as server:
        tested = await asyncio.to_thread(
            schemathesis, f"{server.doors.rest}/openapi.json", folder, ARGUMENTS[scale]
        )
        broken = int(not server.alive) + server.log.count("unexpected error")
    return Row(
        "The whole OpenAPI",
        f"{tested.cases} requests to {tested.operations} operations, valid and invalid, by schemathesis",
        [
            exactly("operations tested", tested.tested, tested.operations),
            exactly(
                "HTTP 500, undescribed answers, bad data taken, refusals without a field",
                len(tested.failures),
                0,
            ),
            exactly("errors in the server's log", broken, 0),
            exactly("references of the description that lead nowhere", tested.unresolved, 0),
        ],
        {"failures": list(tested.failures), "report": tested.text[-4000:] if tested.failures else ""},
    )
