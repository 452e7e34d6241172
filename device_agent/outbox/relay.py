"""An outbox at work: one agent of those that share the file sends, each delivers its own.

put ─▶ Outbox ─▶ Flusher (whoever holds the lock) ─▶ Uplink
          └────▶ deliveries of a source, in the order of asking ─▶ shown
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from device_agent.errors import OutboxFullError
from device_agent.outbox.outbox import Outbox
from device_agent.outbox.records import Delivery
from device_agent.outbox.sender import SPOOL_BACKOFF, Flusher, MoreOf, RecordOf, Troubles
from device_agent.outbox.store import Spool
from device_agent.uplink.backoff import Backoff
from device_agent.uplink.uplink import Uplink
from protos.tokenlink.v1 import tokenlink_pb2 as pb

LEAD_AGAIN_S = 1.0
"""Between two tries to become the one that sends [s]."""
POLL_S = 0.5
"""Between two looks for what another process brought home [s]."""
GRANT_WITHIN_S, FIRST_GRANT_WITHIN_S = 1.0, 3.0
"""So long a question waits for the server's word on what may be sent, before the last word counts [s]."""

Show = Callable[[Delivery], None]


class Spooler:
    """Sends and delivers what is in an outbox, while :meth:`running`.

    Args:
        outbox: open.
        uplink: to the server; used only while this is the process that sends. The caller closes it.
        record_of: what to keep of an answer.
        troubles: told what keeps questions from being answered.
        more_of, backoff: as for :class:`Flusher`.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        outbox: Outbox,
        uplink: Uplink,
        record_of: RecordOf,
        troubles: Troubles,
        *,
        more_of: MoreOf = lambda question: None,
        backoff: Backoff = SPOOL_BACKOFF,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.outbox = outbox
        self._uplink = uplink
        self._record_of = record_of
        self._troubles = troubles
        self._more_of = more_of
        self._backoff = backoff
        self._sleep = sleep

    async def send(self) -> None:
        """Send for ever, whenever no other process does; raises as :meth:`Flusher.run`."""
        while not self.outbox.lead():
            await self._sleep(LEAD_AGAIN_S)
        flusher = Flusher(
            self.outbox,
            self._uplink,
            self._record_of,
            self._troubles,
            more_of=self._more_of,
            backoff=self._backoff,
            sleep=self._sleep,
        )
        await flusher.run()

    async def deliver(self, source: str, show: Show) -> None:
        """Show outcomes of a source for ever, each once, in the order of asking."""
        with self.outbox.changes() as changed:
            while True:
                changed.clear()
                await self.deliver_ready(source, show)
                # Not wait_for: Python 3.11's returns instead, when it is cancelled in the moment of a change.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await changed.wait()

    async def deliver_ready(self, source: str, show: Show) -> int:
        """Show what of a source is ready; how many there were."""
        fetching = asyncio.ensure_future(self._ready(source))
        try:
            await asyncio.shield(fetching)
        finally:
            # Counts as delivered from here on: it is shown even if this is being cancelled.
            deliveries = await fetching
            for delivery in deliveries:
                show(delivery)
        return len(deliveries)

    async def grant(self, ask: Callable[[], Awaitable[pb.Grant]], usual: pb.Grant) -> pb.Grant:
        """What may be sent: by the server's word now, by its last word, or as usual.

        Args:
            ask: asks the server, and does not give up.
            usual: where it was never heard.

        Raises:
            DeviceAgentError: what ``ask`` raises.
        """
        noted = await self.outbox.call(lambda spool: spool.file.note("grant", b""))
        if self.outbox.lead() and not self._troubles.present.is_set():
            asking = asyncio.ensure_future(ask())
            trouble = asyncio.ensure_future(self._troubles.present.wait())
            try:
                await asyncio.wait(
                    {asking, trouble},
                    timeout=GRANT_WITHIN_S if noted else FIRST_GRANT_WITHIN_S,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if asking.done():
                    return asking.result()
            finally:
                asking.cancel()
                trouble.cancel()
                await asyncio.gather(asking, trouble, return_exceptions=True)
        return pb.Grant.FromString(noted) if noted else usual

    async def _ready(self, source: str) -> list[Delivery]:
        try:
            await self.outbox.call(Spool.expire)
            return await self.outbox.call(Spool.deliver, source)
        except OutboxFullError as error:
            # Nothing was delivered; there will be space again.
            self._troubles.say(error)
            return []


async def together(*work: Awaitable[None]) -> None:
    """Run until one ends; the others are cancelled. Raises what ended it, as it is."""
    tasks = [asyncio.ensure_future(part) for part in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
