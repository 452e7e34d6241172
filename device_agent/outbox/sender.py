"""Sends what waits in the outbox, for as long as it takes.

    outbox ─ waiting ─▶ as many as are granted in flight ─▶ Uplink.ask ─▶ outbox: answered ─▶ acknowledge
       ▲                                                       │
       └──────────── full jitter, no last try ◀── no answer ───┘     only its time to live ends it

An answer is kept before the server is told that it need keep it no longer. A disk that is full delays that;
the answer is then held here, and by the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from device_agent.errors import (
    BundleMismatchError,
    ConfigurationError,
    DeviceAgentError,
    GaveUpError,
    OutboxFullError,
    RefusedError,
    UplinkError,
)
from device_agent.outbox.outbox import Outbox
from device_agent.outbox.records import Waiting
from device_agent.outbox.store import Spool
from device_agent.progressive import More, first_round
from device_agent.uplink.backoff import Backoff
from device_agent.uplink.session import Reply
from device_agent.uplink.uplink import Uplink
from protos.tokenlink.v1 import tokenlink_pb2 as pb

logger = logging.getLogger(__name__)

SPOOL_BACKOFF = Backoff(retries=2**31, base_s=0.2, cap_s=5.0)
"""Of a device that can wait: it never gives up, and is back within seconds of its server."""
TRY_S = 300.0
"""A question that is neither answered nor refused for so long is taken back and sent anew [s]."""
GIVE_UPS = 5
"""So often may the server's model fail on a question before it counts as one that has no answer."""
ACKNOWLEDGE_AT_ONCE = 64
ACKNOWLEDGE_AFTER_S = 0.5
_POLL_S = 1.0
"""Between two looks for what other processes put in [s]."""

MoreOf = Callable[[pb.Question], More | None]
"""What makes further tokens of a question in rounds that was kept here."""
RecordOf = Callable[[Waiting, Reply, str], Mapping[str, Any]]
"""What to keep of an answer: question, reply, name of the model."""


class Troubles:
    """Says what keeps questions from being answered, once until that is over.

    Attributes:
        present: set while there is trouble.
    """

    def __init__(self) -> None:
        self._said: set[type[DeviceAgentError]] = set()
        self.present = asyncio.Event()

    def say(self, error: DeviceAgentError) -> None:
        """Something went wrong and is tried again; the same kind of trouble is said once until it is over."""
        self.present.set()
        if type(error) not in self._said:
            self._said.add(type(error))
            logger.warning("%s; trying again", error)

    def over(self) -> None:
        """A question was answered."""
        self.present.clear()
        self._said.clear()


class Flusher:
    """Brings the questions of an outbox to their answers.

    Args:
        outbox: where they wait.
        uplink: to the server, with a backoff that does not give up; the caller closes it.
        record_of: what to keep of an answer.
        troubles: told what keeps questions from being answered.
        more_of: for questions in rounds.
        backoff: between tries that ended with an answer that is none.
        rng: jitter.
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
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._outbox = outbox
        self._uplink = uplink
        self._record_of = record_of
        self._troubles = troubles
        self._more_of = more_of
        self._backoff = backoff
        self._rng = rng or random.Random()  # noqa: S311 (jitter, not a secret)
        self._sleep = sleep
        self._sending: dict[str, asyncio.Task[None]] = {}
        self._grant = b""

    async def run(self) -> None:
        """Send for ever.

        Raises:
            BundleMismatchError: the server answers for another bundle; what waits, waits on.
            NotAdmittedError: the server does not let this device in; likewise.
            OutboxError: the outbox cannot be used.
        """
        acknowledging = asyncio.create_task(self._acknowledge())
        try:
            with self._outbox.changes() as changed:
                while True:
                    changed.clear()
                    session = await self._uplink.open()
                    await self._note(session.grant)
                    await self._take_back_what_ended()
                    most = max(1, session.grant.max_questions_in_flight)
                    for item in await self._outbox.call(
                        Spool.waiting, most - len(self._sending), [*self._sending]
                    ):
                        task = asyncio.create_task(self._bring_home(item, session.model_name))
                        self._sending[item.question.request_id] = task
                    await self._next(changed, acknowledging)
        finally:
            tasks = [acknowledging, *self._sending.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _note(self, grant: pb.Grant) -> None:
        """Remember what was granted, for questions that are made while nobody can be asked."""
        granted = grant.SerializeToString(deterministic=True)
        if granted != self._grant:
            with contextlib.suppress(OutboxFullError):  # said where answers are kept
                await self._outbox.call(lambda spool: spool.file.take_note("grant", granted))
                self._grant = granted

    async def _take_back_what_ended(self) -> None:
        """A question that was dropped while it was under way frees its slot, here and at the server."""
        if self._sending:
            still = await self._outbox.call(Spool.still_waiting, [*self._sending])
            for request_id in self._sending.keys() - still:
                task = self._sending.pop(request_id)
                task.cancel()
                await asyncio.wait([task])

    async def _next(self, changed: asyncio.Event, acknowledging: asyncio.Task[None]) -> None:
        """Wait until there may be something to do; raises what ended a task."""
        waiting = asyncio.create_task(changed.wait())
        try:
            await asyncio.wait(
                {waiting, acknowledging, *self._sending.values()},
                timeout=_POLL_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            waiting.cancel()
        for request_id, task in list(self._sending.items()):
            if task.done():
                del self._sending[request_id]
                task.result()
        if acknowledging.done():
            acknowledging.result()

    async def _bring_home(self, item: Waiting, model_name: str) -> None:
        request_id = item.question.request_id
        give_ups = retry = 0
        while True:
            try:
                reply = await self._uplink.ask(
                    first_round(item.question),
                    deadline_s=TRY_S,
                    bundle_hash=item.bundle_hash,
                    more=self._more_of(item.question),
                )
            except BundleMismatchError as error:
                if item.bundle_hash in ("", self._uplink.bundle_hash):
                    raise
                # Made with a bundle that was replaced here meanwhile, and there too.
                return await self._end(request_id, "refused", error)
            except RefusedError as error:
                return await self._end(request_id, "refused", error)
            except ConfigurationError as error:
                return await self._end(request_id, "refused", error)
            except GaveUpError as error:
                give_ups += 1
                if give_ups >= GIVE_UPS:
                    return await self._end(request_id, "failed", error)
                self._troubles.say(error)
            except UplinkError as error:
                self._troubles.say(error)
            else:
                self._troubles.over()
                record = self._record_of(item, reply, model_name)
                return await self._kept(
                    functools.partial(self._outbox.call, Spool.answered, request_id, record)
                )
            retry += 1
            await self._sleep(self._backoff.delay_s(retry, self._rng))

    async def _end(self, request_id: str, outcome: Any, error: DeviceAgentError) -> None:
        await self._kept(functools.partial(self._outbox.call, Spool.end, request_id, outcome, str(error)))

    async def _kept(self, keep: Callable[[], Awaitable[bool]]) -> None:
        """Keep something, however long the disk is full."""
        retry = 0
        while True:
            try:
                await keep()
            except OutboxFullError as error:
                self._troubles.say(error)
                retry += 1
                await self._sleep(self._backoff.delay_s(retry, self._rng))
            else:
                return

    async def _acknowledge(self) -> None:
        while True:
            await self._sleep(ACKNOWLEDGE_AFTER_S)
            with contextlib.suppress(OutboxFullError):  # said where answers are kept
                request_ids = await self._outbox.call(Spool.unacknowledged, ACKNOWLEDGE_AT_ONCE)
                if request_ids and await self._uplink.acknowledge(request_ids):
                    await self._outbox.call(Spool.acknowledged, request_ids)
