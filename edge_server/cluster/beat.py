"""What a node of a cluster does again and again for as long as it lives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from edge_server.cluster.connection import BrokerError

logger = logging.getLogger(__name__)


async def beat(step: Callable[[], Awaitable[None]], every_s: float) -> None:
    """Do something until cancelled; where it fails, the next one is tried all the same.

    A beat that ended silently would have others take this node for dead, or its questions for abandoned.

    Args:
        step: is done at once, and then after each pause.
        every_s: between the end of one and the next [s].
    """
    while True:
        try:
            await step()
        except BrokerError as error:
            logger.debug("the broker was not reached: %r", error)
        except Exception:
            logger.exception("what is done again and again failed once")
        await asyncio.sleep(every_s)
