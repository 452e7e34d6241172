"""What browsers send over the page's socket: taken where it is well formed, and never written to the log.

The page's library logs whatever a browser asks it to, at any level, and a traceback for each event that is
not what it expects. Whoever reaches the socket could fill the log with lines of their choice.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any

from nicegui import core

logger = logging.getLogger(__name__)

EVENTS = ("handshake", "event", "javascript_response", "ack")


def keep_the_log_ours() -> None:
    """From now on a browser writes nothing to the log; harmless twice."""
    handlers: dict[str, Callable[..., Any]] = core.sio.handlers["/"]
    handlers["log"] = _ignored
    for name in EVENTS:
        if not hasattr(handlers[name], "__wrapped__"):
            handlers[name] = _quiet(handlers[name])


async def _ignored(*sent: object) -> None:
    pass


def _quiet(handler: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(handler)
    async def handle(*sent: Any) -> Any:
        try:
            result = handler(*sent)
            return await result if inspect.isawaitable(result) else result
        except Exception as error:
            # Of anybody's making: a line for each, with what was sent in it, would be theirs.
            logger.debug("an event of a browser was malformed: %s", type(error).__name__)
            return None

    return handle
