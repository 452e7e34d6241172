"""Users over gRPC: one session and one Converse stream each, a channel for every few of them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import grpc
import grpc.aio

from deploy.loadtest.questions import Bundle, fetch_bundle
from deploy.loadtest.target import Failed, Question, Refused
from device_agent.uplink.credentials import Credentials
from protos.metadata import FAILURE_KEY
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from protos.tokenlink.v1.tokenlink_pb2_grpc import TokenLinkStub

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_TRY_AGAIN = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
_CONVERSE = f"/{pb.DESCRIPTOR.services_by_name['TokenLink'].full_name}/Converse"
_CALL_WITHIN_S = 30.0
_ACKNOWLEDGED_AT_ONCE = 32
_CHANNEL_OPTIONS = (
    # Otherwise all channels to one address would share one connection.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 64 * 2**20),
)


def bundle_of(address: str, credentials: Credentials | None = None) -> Bundle:
    """The bundle that a server answers for; blocks, for use before a run.

    Args:
        address: ``host:port``.
        credentials: for TLS; None: the server speaks none.

    Raises:
        Failed: it cannot be had.
    """
    if credentials is None:
        opened = grpc.insecure_channel(address)
    else:
        options = credentials.channel_options()
        opened = grpc.secure_channel(address, credentials.channel_credentials(), options)
    with opened as channel:
        try:
            return fetch_bundle(TokenLinkStub(channel))  # type: ignore[no-untyped-call]  # generated
        except grpc.RpcError as error:
            call: Any = error
            raise Failed(call.code().name.lower(), f"no bundle from {address}: {call.details()}") from error


class GrpcTarget:
    """An edge server's gRPC door. Frames go out as bytes that were serialized before the run.

    Args:
        address: ``host:port``.
        bundle_hash: of the bundle that made the questions.
        users_per_channel: sessions that share one HTTP/2 connection.
        snr_db: what every device reports [dB].
        credentials: for TLS; all users are agents of the one device that they name.
    """

    def __init__(
        self,
        address: str,
        bundle_hash: str,
        *,
        users_per_channel: int = 8,
        snr_db: float = 10.0,
        credentials: Credentials | None = None,
    ) -> None:
        self.address = address
        self.bundle_hash = bundle_hash
        self._users_per_channel = users_per_channel
        self._snr_db = snr_db
        self._credentials = credentials
        device_id = credentials.device_id if credentials is not None else None
        self._prefix = "" if device_id is None else f"{device_id}/"
        self._channels: dict[int, grpc.aio.Channel] = {}

    async def connect(self, user: int) -> GrpcConnection:
        """Open a session and a stream; see the protocol."""
        channel = self._channel(user // self._users_per_channel)
        stub = TokenLinkStub(channel)  # type: ignore[no-untyped-call]
        request = pb.OpenSessionRequest(
            device_id=f"{self._prefix}loadtest-{user}",
            bundle_hash=self.bundle_hash,
            agent_version="loadtest",
            snr_db=self._snr_db,
        )
        try:
            opened = await stub.OpenSession(request, timeout=_CALL_WITHIN_S, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            raise ending_of_call(error) from error
        return GrpcConnection(channel, opened.session_id, self.bundle_hash)

    async def close(self) -> None:
        """Close all channels."""
        channels, self._channels = self._channels, {}
        await asyncio.gather(*(channel.close() for channel in channels.values()))

    def _channel(self, number: int) -> grpc.aio.Channel:
        channel = self._channels.get(number)
        if channel is None:
            channel = self._channels[number] = self._connected()
        return channel

    def _connected(self) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(self.address, options=_CHANNEL_OPTIONS)
        return grpc.aio.secure_channel(
            self.address,
            self._credentials.channel_credentials(),
            options=(*_CHANNEL_OPTIONS, *self._credentials.channel_options()),
        )


class GrpcConnection:
    """One session with one stream, as a device with an outbox has it: answers are acknowledged, some at once.

    A task of its own writes the frames: gRPC cancels a whole stream when one of its writes is cancelled.

    Attributes:
        session_id: of the session.
        taken_back: questions that were cancelled on their way, and whose end has not come yet.
        strays: ends that came for questions which had ended already, or which nobody asked.
    """

    def __init__(self, channel: grpc.aio.Channel, session_id: str, bundle_hash: str) -> None:
        self.session_id = session_id
        self.taken_back: set[str] = set()
        self.strays = 0
        self._stub = TokenLinkStub(channel)  # type: ignore[no-untyped-call]
        self._call: Any = channel.stream_stream(
            _CONVERSE, request_serializer=None, response_deserializer=pb.DownlinkFrame.FromString
        )()
        self._head = pb.UplinkFrame(session_id=session_id, bundle_hash=bundle_hash).SerializeToString()
        self._waiting: dict[str, asyncio.Future[str]] = {}
        self._sent: set[str] = set()
        self._ending: Refused | Failed | None = None
        self._outbox: asyncio.Queue[Question | str | pb.Acknowledge] = asyncio.Queue()
        self._answered: list[str] = []
        self._reader = asyncio.create_task(self._read())
        self._writer = asyncio.create_task(self._write())

    async def ask(self, question: Question) -> str:
        """Ask over the stream; see the protocol."""
        if self._ending is not None:
            raise self._ending
        end: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[question.request_id] = end
        self._outbox.put_nowait(question)
        try:
            return await end
        except asyncio.CancelledError:
            self._outbox.put_nowait(question.request_id)
            raise
        finally:
            del self._waiting[question.request_id]

    async def close(self) -> None:
        """End stream and session; what was taken back is told to the server first."""
        if not self._outbox.empty() and self._ending is None:
            await asyncio.wait([self._writer], timeout=1.0)
        self._writer.cancel()
        self._call.cancel()
        await asyncio.wait([self._reader, self._writer])
        with contextlib.suppress(grpc.aio.AioRpcError):
            request = pb.CloseSessionRequest(session_id=self.session_id)
            await self._stub.CloseSession(request, timeout=_CALL_WITHIN_S)

    async def _write(self) -> None:
        while self._ending is None:
            out = await self._outbox.get()
            if isinstance(out, Question):
                if out.request_id not in self._waiting:
                    continue  # taken back before it left
                frame = self._head + _question_field(out.data)
                self._sent.add(out.request_id)
            elif isinstance(out, pb.Acknowledge):
                frame = self._head + pb.UplinkFrame(acknowledge=out).SerializeToString()
            elif out in self._sent:
                self._sent.remove(out)
                self.taken_back.add(out)
                frame = self._head + pb.UplinkFrame(cancel=pb.Cancel(request_id=out)).SerializeToString()
            else:
                continue  # never sent, or it has ended meanwhile
            # A call that has ended refuses writes; the reader learns why.
            with contextlib.suppress(grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
                await self._call.write(frame)

    async def _read(self) -> None:
        ending: Refused | Failed = Failed("stream", "the server ended the stream")
        try:
            async for frame in self._call:
                if not frame.HasField("delta"):
                    self._end(frame)
        except grpc.aio.AioRpcError as error:
            ending = ending_of_call(error)
        except asyncio.CancelledError:
            ending = Failed("stream", "the stream was closed")
        self._ending = ending
        for end in self._waiting.values():
            if not end.done():
                end.set_exception(ending)

    def _end(self, frame: pb.DownlinkFrame) -> None:
        request_id = frame.request_id
        if request_id in self.taken_back:
            self.taken_back.remove(request_id)
            return
        if request_id not in self._sent:
            self.strays += 1
            return
        self._sent.remove(request_id)
        end = self._waiting.get(request_id)
        if end is None or end.done():
            return  # its asker has just been cancelled
        if frame.HasField("answer"):
            end.set_result(frame.answer.text)
            self._acknowledge(request_id)
        else:
            end.set_exception(ending_of(frame.failure))

    def _acknowledge(self, request_id: str) -> None:
        self._answered.append(request_id)
        if len(self._answered) == _ACKNOWLEDGED_AT_ONCE:
            answered, self._answered = self._answered, []
            self._outbox.put_nowait(pb.Acknowledge(request_ids=answered))


def _question_field(data: bytes) -> bytes:
    """A serialized question as a field of a serialized ``UplinkFrame``."""
    length, varint = len(data), bytearray()
    while length > 0x7F:
        varint.append(length & 0x7F | 0x80)
        length >>= 7
    varint.append(length)
    return bytes([pb.UplinkFrame.QUESTION_FIELD_NUMBER << 3 | 2]) + bytes(varint) + data


def ending_of(failure: pb.Failure) -> Refused | Failed:
    """A ``Failure`` frame as the exception that ends a question."""
    code = _CODES.get(failure.code, grpc.StatusCode.UNKNOWN)
    if code in _TRY_AGAIN:
        return Refused(failure.retry_delay_ms / 1000.0, failure.message)
    return Failed(code.name.lower(), failure.message)


def ending_of_call(error: grpc.aio.AioRpcError) -> Refused | Failed:
    """A call's status as the exception that ends it."""
    for key, value in error.trailing_metadata() or ():
        if key == FAILURE_KEY and isinstance(value, bytes):
            return ending_of(pb.Failure.FromString(value))
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Refused(0.0, error.details() or "")
    return Failed(error.code().name.lower(), error.details() or "")
