"""Who must not get in, and who must: every attack on the doors, and the honest device whose clock is wrong.

The tests are those of every test run; here they count as a row of the table.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from tests.chaos.row import Row, Scale, at_least, exactly
from tests.chaos.suite import run_tests

TESTS = (
    "tests/contract/test_device_certificates.py",
    "tests/contract/test_api_keys.py",
    "tests/contract/test_hostile_strangers.py",
    "tests/contract/test_hostile_peers.py",
    "tests/contract/test_hostile_pages.py",
)
ONE_ATTACK = ("-k", "revocation or years_off or replayed")
"""Enough to see the row work."""


async def run(scale: Scale, folder: Path) -> Row:
    """Run them."""
    verdicts = await run_tests(TESTS, folder, *(() if scale == "full" else ONE_ATTACK))
    return Row(
        "Strangers at the doors",
        f"{len(verdicts.seconds) + len(verdicts.failed)} tests: unenrolled, revoked, expired, foreign, "
        "replayed, wrong key; a clock ten years off; what one can make the server hold",
        [
            at_least("tests passed", len(verdicts.seconds), 1),
            exactly("attacks let in, or honest devices kept out", len(verdicts.failed), 0),
        ],
        asdict(verdicts),
    )
