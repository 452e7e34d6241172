"""One ``Converse`` stream: many questions, multiplexed by request_id.

Every question runs in its own task and ends with its own frame: one that is wrong fails alone, the stream
lives on. A client that goes away cancels its handler, the handler its tasks, and every task closes its
subscription.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from edge_server.cell import Cell, Hold, Peer, Subscription
from edge_server.errors import EdgeServerError, InvalidQuestionError, NotFoundError
from edge_server.frontdoor.backend import EngineBackend
from edge_server.frontdoor.grpc.downlink import Downlink, send
from edge_server.frontdoor.grpc.grants import GrantUpdates
from edge_server.frontdoor.grpc.messages import Received, parsed
from edge_server.frontdoor.grpc.rounds import RoundsDesk, wanted_frame
from edge_server.frontdoor.questions import told_late_s
from edge_server.frontdoor.rounds import RoundsRun
from edge_server.frontdoor.status import known
from edge_server.frontdoor.tracing import QuestionTrace, Tracing
from protos.tokenlink.v1 import tokenlink_pb2 as pb

logger = logging.getLogger(__name__)

_QUESTIONS_PER_STREAM = 256
_MAX_ACKNOWLEDGED = 1024
"""Answers that one frame may acknowledge; the contract says so."""


@dataclass(frozen=True)
class Admitted:
    """A question that was admitted.

    Attributes:
        subscription: its run.
        scenes: what it is about, where it is about scenes; the scene, where it shares one.
    """

    subscription: Subscription
    scenes: tuple[pb.SceneShown, ...] = ()


Ask: TypeAlias = Callable[[pb.UplinkFrame | pb.AskRequest, Peer | None, QuestionTrace], Awaitable[Admitted]]
"""Has a frame's question admitted, from a peer. Raises what the cell raises."""


class Conversation:
    """The questions of one stream.

    Args:
        cell: whose sessions they belong to.
        ask: has one admitted.
        tracing: begins spans.
        downlink: where answers go.
        peer: who holds the stream, as TLS has verified.
        hold: counts the bytes of a question for as long as it is in memory.
        rounds: the questions that come in rounds.
    """

    def __init__(
        self,
        cell: Cell[EngineBackend],
        ask: Ask,
        tracing: Tracing,
        downlink: Downlink,
        peer: Peer | None,
        hold: Callable[[int], Hold],
        rounds: RoundsDesk,
    ) -> None:
        self._cell = cell
        self._ask = ask
        self._tracing = tracing
        self._downlink = downlink
        self._peer = peer
        self._hold = hold
        self._rounds = rounds
        self._grants = GrantUpdates(cell, downlink)
        # A client that sends but does not read is not read from any more.
        self._slots = asyncio.Semaphore(_QUESTIONS_PER_STREAM)
        self._answering: set[tuple[str, str]] = set()

    async def read(self, uplink: AsyncIterator[Received[pb.UplinkFrame]], tasks: asyncio.TaskGroup) -> None:
        """Take frame after frame, to the stream's end.

        Args:
            uplink: the frames.
            tasks: where questions run.
        """
        async for frame in uplink:
            if isinstance(frame, pb.UplinkFrame) and frame.WhichOneof("body") == "cancel":
                self._cancel(frame)
                continue
            if isinstance(frame, pb.UplinkFrame) and frame.WhichOneof("body") == "more":
                # Waits for no slot: the question that it belongs to has one.
                self._rounds.more(frame, self._peer, self._hold)
                continue
            if isinstance(frame, pb.UplinkFrame) and frame.WhichOneof("body") == "late":
                self._late(frame)
                continue
            await self._downlink.pause()
            await self._slots.acquire()
            task = tasks.create_task(self._take(frame))
            task.add_done_callback(lambda _: self._slots.release())
            del frame, task  # a stream that is idle holds nobody's question

    async def close(self) -> None:
        """The stream is over: nobody is told of grants any more."""
        await self._grants.close()

    async def _take(self, frame: Received[pb.UplinkFrame]) -> None:
        request_id = ""
        try:
            message = parsed(frame)
            if message.WhichOneof("body") == "acknowledge":
                self._acknowledge(message)
                return
            if message.WhichOneof("body") != "question":
                raise InvalidQuestionError(
                    "body", "is empty; a question, more of one, a cancel or an acknowledge is needed"
                )
            request_id = message.question.request_id
            with self._hold(message.ByteSize()):
                await self._answer(message)
        except ConnectionError:
            return
        except Exception as error:
            if not isinstance(error, EdgeServerError):
                logger.exception("a question failed", extra={"request_id": request_id})
            await self._downlink.fail(request_id, known(error))

    async def _answer(self, message: pb.UplinkFrame) -> None:
        request_id = message.question.request_id
        trace = self._tracing.question("Converse", message.traceparent, request_id)
        admitted = await self._ask(message, self._peer, trace)
        subscription = admitted.subscription
        self._grants.follow(message.session_id)
        key = (message.session_id, request_id)
        try:
            if key in self._answering:
                return  # sent twice over this stream: the answer is on its way already
            self._answering.add(key)
            run = self._rounds.of(*key) if message.question.HasField("rounds") else None
            asking = None if run is None else asyncio.create_task(self._ask_for_more(run, request_id))
            try:
                await send(message.question, subscription, trace, self._downlink.write, admitted.scenes)
            finally:
                self._answering.discard(key)
                if asking is not None:
                    asking.cancel()
        finally:
            subscription.close()

    async def _ask_for_more(self, run: RoundsRun, request_id: str) -> None:
        try:
            async for wanted in run.requests():
                await self._downlink.write(wanted_frame(request_id, wanted))
        except ConnectionError as gone:
            logger.debug("a request for more found no reader: %s", gone)

    def _acknowledge(self, frame: pb.UplinkFrame) -> None:
        request_ids = frame.acknowledge.request_ids
        if len(request_ids) > _MAX_ACKNOWLEDGED:
            raise InvalidQuestionError(
                "acknowledge.request_ids", f"holds {len(request_ids)}; at most {_MAX_ACKNOWLEDGED} at once"
            )
        try:
            self._cell.acknowledge(frame.session_id, request_ids, peer=self._peer)
        except NotFoundError as error:
            # The device says it again in its next session, or the answers' time to live ends.
            logger.debug("an acknowledge found no session: %s", error)

    def _late(self, frame: pb.UplinkFrame) -> None:
        deadline_s, encode_s = told_late_s(frame.late)
        try:
            self._cell.late(frame.session_id, deadline_s, encode_s, peer=self._peer)
        except EdgeServerError as error:
            logger.debug("a late question found no session: %s", error)
        else:
            # What is granted for it is of use for the next one.
            self._grants.follow(frame.session_id)

    def _cancel(self, frame: pb.UplinkFrame) -> None:
        try:
            self._cell.cancel(frame.session_id, frame.cancel.request_id, peer=self._peer)
        except EdgeServerError as error:
            # There is nothing left to cancel: what the client wanted.
            logger.debug("a cancel found no session: %s", error)
