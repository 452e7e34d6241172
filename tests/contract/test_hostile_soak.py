"""A leak of each kind is noticed by the run that finds none in the server; the long one is a row of chaos."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.chaos.rows import soak

NOTICED_BY = {
    "memory": "growth of memory after the warm-up [MB]",
    "descriptors": "more descriptors",
    "tasks": "more tasks",
}


@pytest.mark.slow
async def test_steady_load_leaks_nothing_and_every_planted_leak_is_noticed(tmp_path: Path) -> None:
    sound, *leaky = await asyncio.gather(
        soak.run("test", tmp_path), *(soak.run("test", tmp_path, fault) for fault in NOTICED_BY)
    )
    assert sound.kept, [check for check in sound.checks if not check.kept] + [sound.facts]
    assert sound.facts["counts"]["taken back"] > 0.1 * sound.facts["counts"]["asked"]
    for fault, row in zip(NOTICED_BY, leaky, strict=True):
        assert NOTICED_BY[fault] in {check.what for check in row.checks if not check.kept}, (fault, row)
