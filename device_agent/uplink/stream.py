"""One Converse stream, shared by all questions of an agent.

    ask("a") ─▶ write ─┐                        ┌─▶ inbox "a"
    ask("b") ─▶ write ─┴─▶ Converse ─▶ reader ──┴─▶ inbox "b"

A stream that ends puts why into every inbox: no question waits for a stream that is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeAlias

import grpc.aio

from device_agent.errors import DeviceAgentError, ServerUnreachableError, UplinkError
from device_agent.uplink.sane import MAX_WAITING_BYTES, MAX_WAITING_FRAMES
from device_agent.uplink.status import TryAgainError, error_of_call, heard
from protos.tokenlink.v1 import tokenlink_pb2 as pb

Incoming: TypeAlias = "pb.DownlinkFrame | DeviceAgentError | TryAgainError"


class Inbox:
    """What has come for one question and was not taken yet: bounded, whatever the server sends."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._queue: asyncio.Queue[Incoming] = asyncio.Queue()
        self._bytes = 0
        self._over = False

    @property
    def empty(self) -> bool:
        """Whether nothing is ready."""
        return self._queue.empty()

    def put(self, incoming: Incoming) -> None:
        """Take something in; a frame too many ends the question instead."""
        if self._over:
            return
        if isinstance(incoming, pb.DownlinkFrame):
            self._bytes += incoming.ByteSize()
            if self._bytes > MAX_WAITING_BYTES or self._queue.qsize() >= MAX_WAITING_FRAMES:
                incoming = UplinkError(f"{self._server} sends more than can be taken in")
        self._over = not isinstance(incoming, pb.DownlinkFrame)
        self._queue.put_nowait(incoming)

    async def take(self) -> Incoming:
        """What came first."""
        incoming = await self._queue.get()
        if isinstance(incoming, pb.DownlinkFrame):
            self._bytes -= incoming.ByteSize()
        return incoming


class Conversation:
    """Multiplexes questions over one stream; opened by its construction.

    Args:
        call: a fresh Converse call.
        server: its address, for messages.
        on_grant: told of grants that changed.
    """

    def __init__(
        self, call: Any, server: str, on_grant: Callable[[pb.GrantUpdate], None] = lambda update: None
    ) -> None:
        self._call = call
        self._on_grant = on_grant
        self._server = server
        self._inboxes: dict[str, Inbox] = {}
        self._turn = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()
        self._end: DeviceAgentError | TryAgainError | None = None
        self._reader = asyncio.create_task(self._read())

    @property
    def ended(self) -> bool:
        """Whether the stream is gone."""
        return self._end is not None

    async def frames(self, frame: pb.UplinkFrame) -> AsyncGenerator[pb.DownlinkFrame, None]:
        """Send a question and yield what comes back for it; whoever stops early sends a cancel.

        Raises:
            TryAgainError: the stream ended; the question may be sent again over another.
            DeviceAgentError: the stream ended for a reason that will not go away.
        """
        request_id = frame.question.request_id
        if request_id in self._inboxes:
            raise UplinkError(f"request_id {request_id!r} is being asked already")
        inbox = Inbox(self._server)
        self._inboxes[request_id] = inbox
        self._idle.clear()
        if self._end is not None:
            inbox.put(self._end)
        try:
            await self._write(frame)
            while True:
                incoming = await inbox.take()
                if not isinstance(incoming, pb.DownlinkFrame):
                    raise incoming
                yield incoming
                await asyncio.sleep(0)  # a deadline is noticed, however much has come
        finally:
            del self._inboxes[request_id]
            if not self._inboxes:
                self._idle.set()

    async def idle(self) -> None:
        """Wait until no question is under way."""
        await self._idle.wait()

    async def send(self, frame: pb.UplinkFrame) -> None:
        """Send a frame to which nothing comes back; raises as :meth:`frames`."""
        await self._write(frame)

    async def cancel(self, session_id: str, bundle_hash: str, request_id: str) -> None:
        """Take a question back; harmless if it has ended, or the stream does meanwhile: it ends with that."""
        if self._end is None:
            cancel = pb.Cancel(request_id=request_id)
            frame = pb.UplinkFrame(session_id=session_id, bundle_hash=bundle_hash, cancel=cancel)
            with contextlib.suppress(TryAgainError, DeviceAgentError):
                await self._write(frame)

    async def close(self) -> None:
        """End the stream; questions still waiting are told."""
        self._call.cancel()
        await asyncio.wait([self._reader])

    async def _write(self, frame: pb.UplinkFrame) -> None:
        async with self._turn:
            try:
                await self._call.write(frame)
            except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError) as error:
                # The reader learns why from the call itself, and tells every inbox.
                await asyncio.wait([self._reader])
                raise self._end or TryAgainError(ServerUnreachableError(str(error))) from error

    async def _read(self) -> None:
        end: DeviceAgentError | TryAgainError = TryAgainError(
            ServerUnreachableError(f"{self._server} ended the stream")
        )
        try:
            async for frame in self._call:
                frame = heard(frame, self._server)
                if frame.WhichOneof("body") == "grant":
                    self._on_grant(frame.grant)
                    continue
                inbox = self._inboxes.get(frame.request_id)
                if inbox is not None:
                    inbox.put(frame)
        except grpc.aio.AioRpcError as error:
            end = error_of_call(error, self._server)
        except TryAgainError as error:
            end = error
            self._call.cancel()
        except asyncio.CancelledError:
            # Of the call, or of this task when the loop goes down; either way the stream is over.
            end = TryAgainError(ServerUnreachableError(f"the stream to {self._server} was closed"))
            raise
        finally:
            self._end = end
            for inbox in self._inboxes.values():
                inbox.put(end)
