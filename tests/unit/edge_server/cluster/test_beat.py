"""What is done again and again goes on after a fault, and ends when it is told to."""

from __future__ import annotations

import asyncio
import logging

import pytest

from edge_server.cluster.beat import beat
from edge_server.cluster.ending import end
from tests.waiting import until


@pytest.mark.parametrize(("fault", "told"), [(ValueError("odd"), 1), (TimeoutError(), 0)])
async def test_a_fault_ends_no_beat(fault: Exception, told: int, caplog: pytest.LogCaptureFixture) -> None:
    done = 0

    async def step() -> None:
        nonlocal done
        done += 1
        if done == 1:
            raise fault

    with caplog.at_level(logging.ERROR):
        task = asyncio.create_task(beat(step, 0.0))
        await until(lambda: done > 2)
        await end(task)
    assert task.cancelled()
    assert len(caplog.records) == told
