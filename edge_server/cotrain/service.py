"""The co-training door: gRPC around a round. Tells who a device is; what it sent is the round's business."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from edge_server.cell import Access, Peer
from edge_server.cotrain.learning_round import LearningRound
from edge_server.cotrain.members import Member
from edge_server.errors import (
    ConfigurationError,
    DeadlineExpiredError,
    EdgeServerError,
    InvalidQuestionError,
    UnauthenticatedError,
)
from edge_server.frontdoor.grpc.ending import abort
from edge_server.frontdoor.tls import TlsDoor, TlsFiles
from protos import keepalive
from protos.tokenlink.v1 import cotrain_pb2 as cpb
from protos.tokenlink.v1 import cotrain_pb2_grpc as cgrpc

logger = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 32 * 2**20
_JOIN_S = 10.0
_GRACE_S = 2.0


@dataclass(frozen=True)
class Identity:
    """Tells devices by their certificates.

    Attributes:
        identify: who holds a certificate (PEM) that TLS has verified.
        access: whether that is good now; asked with every frame.
    """

    identify: Callable[[bytes], Peer]
    access: Access


class CoTrainingService(cgrpc.CoTrainingServicer):
    """Implements the contract's service.

    Args:
        learning: the round.
        identity: tells devices by their certificates; None: nobody has one.
    """

    def __init__(self, learning: LearningRound, identity: Identity | None = None) -> None:
        self._round = learning
        self._identity = identity

    async def Learn(  # noqa: N802 (named by the contract)
        self, request_iterator: AsyncIterator[cpb.LearnUplink], context: Any
    ) -> AsyncIterator[cpb.LearnDownlink]:
        """A device's part in the round."""
        try:
            peer = self._peer(context)
            member = self._round.join(await self._join(request_iterator, peer))
        except EdgeServerError as error:
            await abort(context, error)
        reading = asyncio.create_task(self._read(member, request_iterator, peer))
        reading.add_done_callback(lambda _: member.end())
        try:
            while (frame := await member.outbox.get()) is not None:
                yield frame
            await self._say_why(reading, context)
        finally:
            self._round.intake.leave(member)
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await reading

    async def _say_why(self, reading: asyncio.Task[None], context: Any) -> None:
        """Where what a device sent ended its stream, say what it was."""
        why = reading.exception() if reading.done() and not reading.cancelled() else None
        if isinstance(why, EdgeServerError):
            await abort(context, why)

    def _peer(self, context: Any) -> Peer | None:
        if self._identity is None:
            return None
        shown = next(iter(context.auth_context().get("x509_pem_cert", ())), None)
        if shown is None:
            raise UnauthenticatedError("a device shows its certificate here", reason="no_certificate")
        peer = self._identity.identify(shown)
        self._identity.access.check(peer)
        return peer

    async def _join(self, requests: AsyncIterator[cpb.LearnUplink], peer: Peer | None) -> cpb.Join:
        try:
            async with asyncio.timeout(_JOIN_S):
                first = await anext(aiter(requests))
        except (TimeoutError, StopAsyncIteration) as error:
            raise DeadlineExpiredError(_JOIN_S) from error
        if first.WhichOneof("body") != "join":
            raise InvalidQuestionError("body", "body: the first frame of a stream is Join")
        if peer is not None:
            peer.check_device_id(first.join.device_id)
        return first.join

    async def _read(
        self, member: Member, requests: AsyncIterator[cpb.LearnUplink], peer: Peer | None
    ) -> None:
        async for frame in requests:
            if peer is not None and self._identity is not None:
                self._identity.access.check(peer)
            await self._round.intake.received(member, frame)


class CoTrainingServer:
    """The gRPC server around the service.

    Args:
        service: what to serve.
        max_devices: streams at once.
        tls: certificates; None: no encryption.
    """

    def __init__(self, service: CoTrainingService, max_devices: int, tls: TlsFiles | None = None) -> None:
        self._tls = TlsDoor(tls) if tls is not None else None
        self._server = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.so_reuseport", 0),
                *keepalive.SERVER_OPTIONS,
            ),
            # An older stream of a device may still be there while its newer one begins.
            maximum_concurrent_rpcs=2 * max_devices + 8,
        )
        cgrpc.add_CoTrainingServicer_to_server(service, self._server)  # type: ignore[no-untyped-call]

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port that was bound.

        Raises:
            ConfigurationError: the address cannot be bound.
        """
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound = (
                self._server.add_insecure_port(address)
                if self._tls is None
                else self._server.add_secure_port(address, self._tls.credentials())
            )
        except RuntimeError as error:
            raise ConfigurationError(f"port: cannot listen on {host}:{port}: {error}") from error
        await self._server.start()
        return bound

    async def stop(self) -> None:
        """Send what was told, and close."""
        await self._server.stop(_GRACE_S)
