"""What search, scenes and standing questions show of other users: every door, tried by who may not see.

The doors are those of the tests below: questions over gRPC, REST and OpenAI's API, by name and by id; lists,
search, deletion; standing questions; the page with a key of somebody else's. A thing shown fails its test.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tests.chaos.row import Row, Scale, Settled, at_least, exactly
from tests.chaos.suite import run_tests

TESTS = (
    "tests/contract/test_scenes.py::TestAcrossUsers",
    "tests/e2e/test_scenes_page.py::test_a_key_sees_on_the_page_what_it_may_see_and_no_more",
)
_AT_LEAST: Mapping[Scale, int] = MappingProxyType({"test": 2, "quick": 3, "full": 3})
"""Tests; the one of the page needs a browser."""
_PROMISE = "What search and scenes reveal across users"


async def run(scale: Scale, folder: Path) -> Row:
    """See the module."""
    verdicts = await run_tests(TESTS if scale != "test" else TESTS[:1], folder)
    revealed = len(verdicts.failed)
    checks = [
        exactly("doors through which something was seen", revealed, 0),
        at_least("tests that tried them", len(verdicts.seconds), _AT_LEAST[scale]),
    ]
    return Row(
        "scene_doors",
        "every door to scenes, searches and standing questions tried with another's key, certificate or none",
        checks,
        {"tests": sorted(verdicts.seconds), "failed": verdicts.failed, "skipped": verdicts.skipped},
        [Settled(_PROMISE, revealed, all(check.kept for check in checks))],
    )
