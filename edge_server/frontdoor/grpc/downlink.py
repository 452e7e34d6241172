"""What goes down to a device: answers as they come about, failures, and the pace at which it is read from."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import grpc.aio

from edge_server.cell import Subscription
from edge_server.engine import Completion, Delta, Event
from edge_server.errors import EdgeServerError, OverloadedError
from edge_server.frontdoor.status import failure_of
from edge_server.frontdoor.tracing import QuestionTrace
from protos.tokenlink.v1 import tokenlink_pb2 as pb

logger = logging.getLogger(__name__)

#: Of the delay that a client is told. Less than all of it: who keeps to it finds his stream empty when he
#: comes back.
PAUSE_OF_DELAY = 0.8
#: A cancel that comes after an impatient question is read so late at most.
LONGEST_PAUSE_S = 1.0

Context: TypeAlias = "grpc.aio.ServicerContext[object, pb.DownlinkFrame]"


class Downlink:
    """Writes of many tasks to one stream, one at a time."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._turn = asyncio.Lock()
        self._read_from_s = 0.0

    async def write(self, frame: pb.DownlinkFrame) -> None:
        """Send a frame.

        Raises:
            ConnectionError: the client has gone; its handler is about to be cancelled.
        """
        await self.write_made(lambda: frame)

    async def write_made(self, make: Callable[[], pb.DownlinkFrame]) -> None:
        """Send a frame that is made when its turn has come; raises as :meth:`write`."""
        async with self._turn:
            try:
                await self._context.write(make())
            except Exception as error:
                # grpc.aio has no one exception for this: internal errors, usage errors, invalid states.
                raise ConnectionError("the client has gone") from error

    async def pause(self) -> None:
        """Wait, if this client has just been told to.

        A refusal costs about as much of the event loop as an answer does. Who asks on regardless is read more
        slowly, until the stream's flow control slows it down too; else refusing would leave nobody to answer.
        """
        pause_s = self._read_from_s - time.monotonic()
        if pause_s > 0.0:
            await asyncio.sleep(pause_s)

    async def fail(self, request_id: str, error: EdgeServerError) -> None:
        """End a question without an answer; nothing if the client has gone."""
        if isinstance(error, OverloadedError):
            pause_s = min(PAUSE_OF_DELAY * error.retry_delay_s, LONGEST_PAUSE_S)
            self._read_from_s = time.monotonic() + pause_s
        try:
            await self.write(pb.DownlinkFrame(request_id=request_id, failure=failure_of(error)))
        except ConnectionError as gone:
            logger.debug("a failure found no reader: %s", gone)


async def send(
    question: pb.Question,
    subscription: Subscription,
    trace: QuestionTrace,
    write: Callable[[pb.DownlinkFrame], Awaitable[None]],
    scenes: Sequence[pb.SceneShown] = (),
) -> None:
    """Send an answer as it comes about, with what scenes it is from; the trace ends with it."""
    try:
        async for event in subscription:
            if isinstance(event, Completion):
                trace.completed(event)
            elif question.whole_answer:
                continue
            await write(_frame(question.request_id, event, scenes))
    except BaseException as error:
        trace.end(error)
        raise
    trace.end()


def _frame(request_id: str, event: Event, scenes: Sequence[pb.SceneShown]) -> pb.DownlinkFrame:
    if isinstance(event, Delta):
        return pb.DownlinkFrame(request_id=request_id, delta=pb.AnswerDelta(text=event.text))
    return pb.DownlinkFrame(
        request_id=request_id,
        answer=pb.Answer(
            text=event.text,
            probability=event.probability,
            prompt_tokens=event.prompt_tokens,
            answer_tokens=event.answer_tokens,
            queue_s=event.queue_s,
            compute_s=event.compute_s,
            finish_reason=event.finish_reason,
            logprob=event.logprob,
            confidence=event.confidence,
            abstained=event.abstained,
            guess=event.guess,
            scenes=scenes,
        ),
    )
