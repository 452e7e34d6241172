"""The work queue of a model: doors put questions in, engines pull as many as they have room for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from edge_server.cluster.beat import beat
from edge_server.cluster.connection import BrokerError, Connection
from edge_server.cluster.ending import end
from edge_server.cluster.subjects import CONSUMER, QueueSubjects
from edge_server.cluster.work_tracing import TRACEPARENT
from edge_server.errors import DeadlineExpiredError, QuestionTooLargeError
from protos.tokenlink.v1 import cluster_pb2 as cb

logger = logging.getLogger(__name__)

_RETRY_S = 0.1
_PULL_S = 10.0
"""For how long one request for questions holds [s]."""
_HEARTBEAT_S = 1.0
_MESSAGE_ID = "Nats-Msg-Id"


class WorkQueue:
    """A model's queue, as doors see it.

    Args:
        connection: to the broker.
        subjects: of the model.
        wall_clock: seconds since the Unix epoch.
    """

    def __init__(
        self,
        connection: Connection,
        subjects: QueueSubjects,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._connection = connection
        self._subjects = subjects
        self._wall_clock = wall_clock

    async def put(self, work: cb.Work, message_id: str, traceparent: str = "") -> int:
        """Put a question in, once, however often that has to be tried.

        Args:
            work: the question.
            message_id: what it is known by: what was put in under the same is not put in again.
            traceparent: of its span, at its door; empty: it is not traced.

        Returns:
            Its number in the queue; 0 where it had been put in before.

        Raises:
            QuestionTooLargeError: the broker takes no messages of that size.
            DeadlineExpiredError: the broker was away until its deadline.
        """
        data = work.SerializeToString()
        allowed = self._connection.client.max_payload
        if len(data) > allowed:
            raise QuestionTooLargeError(
                "question", f"takes {len(data)} bytes on its way to an engine; the cluster carries {allowed}"
            )
        headers = {_MESSAGE_ID: message_id}
        if traceparent:
            headers[TRACEPARENT] = traceparent
        while self._wall_clock() < work.deadline_at_s:
            try:
                found = await self._connection.jet.publish(
                    self._subjects.work, data, timeout=2.0, headers=headers
                )
            except BrokerError as error:
                logger.debug("a question was not taken by the broker yet: %r", error)
                await asyncio.sleep(_RETRY_S)
            else:
                return 0 if found.duplicate else found.seq
        raise DeadlineExpiredError(work.deadline_s)

    async def take_back(self, uid: str, number: int) -> None:
        """Nobody waits for a question any more: engines that run it stop, and it leaves the queue."""
        with contextlib.suppress(*BrokerError):
            await self._connection.client.publish(self._subjects.cancel, uid.encode())
            if number:
                await self._connection.jet.delete_msg(self._subjects.stream, number)


class Delivery:
    """A question that was pulled; it is acknowledged once.

    Args:
        message: as it came.
        connection: to the broker.

    Attributes:
        work: the question.
        times: that it was delivered, this one counted.
        queued_at_s: when the broker took it, seconds since the Unix epoch.
        traceparent: of its span, at its door; empty: it is not traced.
    """

    def __init__(self, message: Msg, connection: Connection) -> None:
        self.work = cb.Work.FromString(message.data)
        self.times = message.metadata.num_delivered
        self.queued_at_s = message.metadata.timestamp.timestamp()
        self.traceparent = (message.headers or {}).get(TRACEPARENT, "")
        self._reply = message.reply
        self._connection = connection
        self._acknowledged = False

    async def in_progress(self) -> None:
        """It is worked on: it goes to nobody else yet."""
        await self._say(b"+WPI")

    async def done(self) -> None:
        """It has ended, and leaves the queue."""
        self._acknowledged = True
        await self._say(b"+ACK")

    async def hand_back(self, delay_s: float) -> None:
        """Others are to have it, after a while [s]."""
        self._acknowledged = True
        await self._say(b"-NAK " + json.dumps({"delay": int(delay_s * 1e9)}).encode())

    async def _say(self, what: bytes) -> None:
        # Not awaited by anybody: where it is lost, the question is delivered again, and found to have ended.
        with contextlib.suppress(*BrokerError):
            await self._connection.client.publish(self._reply, what)


class Puller:
    """Pulls questions while there is room for them.

    Args:
        connection: to the broker.
        subjects: of the model.
        room: how many more there is room for now.
        take: takes one.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        connection: Connection,
        subjects: QueueSubjects,
        room: Callable[[], int],
        take: Callable[[Delivery], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{subjects.stream}.{CONSUMER}"
        self._room = room
        self._take = take
        self._clock = clock
        self._inbox = ""
        self._asked_for = 0
        self._heard_at = 0.0
        self._subscription: Subscription | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to pull."""
        await self._listen()
        self._watch = asyncio.create_task(beat(self._watch_over, _HEARTBEAT_S / 2), name="tokenlink-puller")

    async def stop(self) -> None:
        """Pull no more."""
        watch, self._watch = self._watch, None
        if watch is not None:
            await end(watch)
        await self._hear_no_more()

    async def ask(self) -> None:
        """Ask for as many as there is room for, beside those that were asked for."""
        wanted = self._room() - self._asked_for
        if self._watch is None or wanted <= 0 or (self._asked_for and wanted < self._asked_for // 4):
            return
        self._asked_for += wanted
        request: dict[str, Any] = {
            "batch": wanted,
            "expires": int(_PULL_S * 1e9),
            "idle_heartbeat": int(_HEARTBEAT_S * 1e9),
        }
        try:
            await self._connection.client.publish(self._next, json.dumps(request).encode(), reply=self._inbox)
        except BrokerError:
            self._asked_for -= wanted

    async def _listen(self) -> None:
        """Under a new address: what was asked for under the one before counts no more."""
        await self._hear_no_more()
        self._inbox = self._connection.client.new_inbox()
        self._asked_for = 0
        self._heard_at = self._clock()
        self._subscription = await self._connection.client.subscribe(self._inbox, cb=self._on_message)

    async def _hear_no_more(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with contextlib.suppress(*BrokerError):
                await subscription.unsubscribe()

    async def _on_message(self, message: Msg) -> None:
        self._heard_at = self._clock()
        if not message.reply.startswith("$JS.ACK"):
            headers = message.headers or {}
            status = headers.get("Status")
            if status != "100":
                # It has expired, or its server goes; so many of it were still to come.
                self._asked_for -= int(headers.get("Nats-Pending-Messages", self._asked_for))
            if status == "408":
                await self.ask()  # after anything else, the watch does, which gives it time
            return
        self._asked_for -= 1
        await self._take(Delivery(message, self._connection))
        await self.ask()

    async def _watch_over(self) -> None:
        """Where nothing is heard, not even a heartbeat, whoever was asked is gone."""
        if self._asked_for and self._clock() - self._heard_at > 3 * _HEARTBEAT_S:
            await self._listen()
        await self.ask()
