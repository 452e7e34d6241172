"""Ends tasks that talk to the broker."""

from __future__ import annotations

import asyncio

_AGAIN_S = 1.0


async def end(task: asyncio.Task[None]) -> None:
    """Cancel a task until it has ended.

    Up to Python 3.11, ``asyncio.wait_for`` loses a cancel that comes together with what it waits for, and the
    broker's client waits by it for every answer: who cancels once would wait for ever.

    Args:
        task: that may wait for the broker.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_AGAIN_S)
