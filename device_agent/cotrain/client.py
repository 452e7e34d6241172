"""Takes part in a round over the network until the edge says that it is over.

    Join ─▶ Joined ─▶ ( Step ─▶ Batch ─▶ BatchGradient, or Step ─▶ Heads ─▶ [Heads] )* ─▶ Finished

A device that is behind answers the newest step only. A link that breaks is opened again; what was learned
stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from device_agent.cotrain.learner import Learned, Learner
from device_agent.errors import DeviceAgentError, UplinkError
from device_agent.uplink.backoff import Backoff
from device_agent.uplink.credentials import Credentials
from device_agent.uplink.proxy import proxy_options
from device_agent.uplink.status import TryAgainError, error_of_call, heard
from device_agent.version import agent_version
from protos import keepalive
from protos.gradients import GradientError
from protos.tokenlink.v1 import cotrain_pb2 as cpb
from protos.tokenlink.v1.cotrain_pb2_grpc import CoTrainingStub

MAX_MESSAGE_BYTES = 32 * 2**20
"""Of what comes down: gradients of a batch, or heads."""

#: For rounds that are opened later, or edges that are restarted: tries go on for some minutes.
PATIENT = Backoff(retries=60, base_s=0.5, cap_s=10.0)


@dataclass(frozen=True)
class Door:
    """Where the edge co-trains.

    Attributes:
        server: address, ``host:port``.
        credentials: for TLS; None: the link is not encrypted.
        use_proxy: as of an uplink.
    """

    server: str
    credentials: Credentials | None = None
    use_proxy: bool | None = None

    def channel(self) -> grpc.aio.Channel:
        """A connection."""
        options = (
            *keepalive.DEVICE_OPTIONS,
            *proxy_options(self.server, self.use_proxy),
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1_000),
        )
        if self.credentials is None:
            return grpc.aio.insecure_channel(self.server, options)
        return grpc.aio.secure_channel(
            self.server,
            self.credentials.channel_credentials(),
            (*options, *self.credentials.channel_options()),
        )


@dataclass(frozen=True)
class Progress:
    """Told after each thing that happened."""

    rounds: int
    learned: Learned


async def take_part(
    learner: Learner,
    door: Door,
    *,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_trouble: Callable[[DeviceAgentError], None] = lambda error: None,
    backoff: Backoff = PATIENT,
    rng: random.Random | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> str:
    """Take part until the round is over; returns why it is: "done" or "stopped".

    Raises:
        UplinkError: the edge cannot be reached.
        BundleMismatchError: the round is for devices with another bundle.
        NotAdmittedError: this device may not take part (any more).
        DeviceAgentError: any other of the tree.
    """
    rng = rng or random.Random()  # noqa: S311 (jitter)
    tries = 0
    while True:
        before = learner.learned
        try:
            async with door.channel() as channel:
                return await _Stream(learner, channel, door.server, on_progress).run()
        except TryAgainError as again:
            tries = 1 if learner.learned != before else tries + 1
            if tries > backoff.retries:
                raise again.cause from again
            on_trouble(again.cause)
            await sleep(backoff.delay_s(tries, rng, again.floor_s))
        finally:
            if learner.round_id:
                learner.save()


class _Stream:
    """One stream, from Join to its end."""

    def __init__(
        self,
        learner: Learner,
        channel: grpc.aio.Channel,
        server: str,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._learner, self._server = learner, server
        self._on_progress = on_progress
        self._call: Any = CoTrainingStub(channel).Learn()  # type: ignore[no-untyped-call]
        self._rounds = 0
        self._changed = asyncio.Event()
        self._gradients: deque[cpb.BatchGradient] = deque(maxlen=8)
        self._heads: cpb.Heads | None = None
        self._step: cpb.Step | None = None
        self._finished: cpb.Finished | None = None

    async def run(self) -> str:
        """Until the edge says that the round is over."""
        try:
            await self._write(cpb.LearnUplink(join=self._learner.join(agent_version())))
            first = await self._read()
            if first is None or first.WhichOneof("body") != "joined":
                raise UplinkError(f"{self._server} does not answer Join; does it co-train?")
            # Clips may have to be encoded.
            await asyncio.to_thread(self._learner.joined, first.joined)
            self._rounds = first.joined.rounds
            reading = asyncio.create_task(self._reading())
            try:
                while self._finished is None:
                    await self._wait(reading)
                    await self._work()
                return self._finished.reason
            finally:
                reading.cancel()
                with contextlib.suppress(asyncio.CancelledError, TryAgainError, DeviceAgentError):
                    await reading
        finally:
            self._call.cancel()

    async def _wait(self, reading: asyncio.Task[None]) -> None:
        """Until something came, or nothing more will."""
        changed = asyncio.create_task(self._changed.wait())
        await asyncio.wait({changed, reading}, return_when=asyncio.FIRST_COMPLETED)
        changed.cancel()
        if reading.done() and not self._changed.is_set():
            reading.result()
            raise TryAgainError(UplinkError(f"{self._server} ended the stream"))
        self._changed.clear()

    async def _reading(self) -> None:
        while (frame := await self._read()) is not None:
            match frame.WhichOneof("body"):
                case "step":
                    self._step = frame.step  # one that was not begun is out of date now
                case "gradient":
                    self._gradients.append(frame.gradient)
                case "heads":
                    self._heads = frame.heads
                case "finished":
                    self._finished = frame.finished
            self._changed.set()

    async def _work(self) -> None:
        learner = self._learner
        while self._gradients:
            await asyncio.to_thread(learner.apply, self._gradients.popleft())
            self._on_progress(Progress(self._rounds, learner.learned))
        if self._heads is not None:
            heads, self._heads = self._heads, None
            with contextlib.suppress(GradientError):
                learner.take_heads(heads)
        step, self._step = self._step, None
        if step is None:
            return
        if step.wants_heads:
            await self._write(cpb.LearnUplink(heads=learner.heads_message(step.step)))
            return
        batch = await asyncio.to_thread(learner.batch, step)
        await self._write(cpb.LearnUplink(batch=batch))

    async def _read(self) -> cpb.LearnDownlink | None:
        try:
            frame = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise error_of_call(error, self._server) from error
        return None if frame is grpc.aio.EOF else heard(frame, self._server)

    async def _write(self, frame: cpb.LearnUplink) -> None:
        try:
            await self._call.write(frame)
        except grpc.aio.AioRpcError as error:
            raise error_of_call(error, self._server) from error
        except asyncio.InvalidStateError as error:  # the call has ended: why, it says when it is read
            await self._read()
            raise TryAgainError(UplinkError(f"{self._server} ended the stream")) from error
