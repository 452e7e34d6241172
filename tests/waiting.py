"""Waiting for what happens: for as long as it takes, and no longer.

On a machine that does something else as well, everything takes longer. So what waits here has minutes of
patience and returns at once, and nothing asserts that something was fast. Tests do not sleep: they wait for
what they need.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

PATIENCE_S = 120.0
"""After this, what a test waits for is taken not to happen at all."""

_LOOK_EVERY_S = 0.005


async def until(condition: Callable[[], bool | Awaitable[bool]], within_s: float = PATIENCE_S) -> None:
    """Look again and again until a condition holds.

    Raises:
        TimeoutError: it did not hold in time.
    """
    async with asyncio.timeout(within_s):
        while not await _holds(condition):
            await asyncio.sleep(_LOOK_EVERY_S)


def until_true(condition: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    """:func:`until` where there is no event loop."""
    ends_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > ends_s:
            raise TimeoutError(f"what was waited for did not happen within {within_s:g} s")
        time.sleep(_LOOK_EVERY_S)


async def turns(count: int = 1) -> None:
    """Let everything that is ready run, so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def obey(delay_s: float) -> None:
    """Wait as one was told to: a delay to retry after, or a deadline that is to pass.

    Only for a time that the tested code itself names; never for "long enough".
    """
    ends_s = time.monotonic() + delay_s
    await until(lambda: time.monotonic() >= ends_s, delay_s + PATIENCE_S)


async def _holds(condition: Callable[[], bool | Awaitable[bool]]) -> bool:
    found = condition()
    return await found if inspect.isawaitable(found) else bool(found)
