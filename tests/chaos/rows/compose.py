"""``docker compose up`` on a real engine, then one container after the other is killed.

The tests are those of every test run that has an engine; here they count as a row of the table.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from tests.chaos.row import Row, Scale, at_least, exactly
from tests.chaos.suite import run_tests
from tests.e2e.stack import HEALED_WITHIN_S

TESTS = ("tests/e2e/test_compose.py", "tests/e2e/test_compose_tls.py")
READING = ("-k", "overlays")
"""What needs no engine."""


async def run(scale: Scale, folder: Path) -> Row:
    """Run them; each has its own bounds on how long healing may take."""
    verdicts = await run_tests(TESTS, folder, *(() if scale == "full" else READING))
    return Row(
        "docker compose up",
        f"{len(verdicts.seconds) + len(verdicts.failed)} tests: one command to the first answers, with and "
        f"without mutual TLS; every container killed and back within {HEALED_WITHIN_S} s",
        [
            at_least("tests passed", len(verdicts.seconds), 1),
            exactly("tests failed", len(verdicts.failed), 0),
            exactly("tests skipped", len(verdicts.skipped), 0),
        ],
        asdict(verdicts),
    )
