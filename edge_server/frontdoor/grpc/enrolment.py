"""The enrolment door: TLS without a client's certificate, on a port of its own. Translates only."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from edge_server.cell import Limits, Peer
from edge_server.errors import (
    ConfigurationError,
    EdgeServerError,
    EngineFailureError,
    InvalidQuestionError,
    UnauthenticatedError,
)
from edge_server.frontdoor.grpc.slow_calls import read_in_time
from edge_server.frontdoor.status import failure_of, status_of
from edge_server.frontdoor.tls import TlsDoor, TlsFiles
from protos.metadata import FAILURE_KEY
from protos.tokenlink.v1 import enrolment_pb2 as pb

logger = logging.getLogger(__name__)

SERVICE = pb.DESCRIPTOR.services_by_name["Enrolment"].full_name

_MAX_MESSAGE_BYTES = 32 * 1024
_MAX_CALLS = 64


class Certificate(Protocol):
    """What a device gets."""

    @property
    def device_id(self) -> str:
        """Its name."""

    @property
    def certificate_pem(self) -> str:
        """Its certificate."""

    @property
    def authority_pem(self) -> str:
        """Of the authority that signed it."""

    @property
    def renew_at_s(self) -> float:
        """From when on it is renewed [seconds since the Unix epoch]."""

    @property
    def bundle_keys(self) -> tuple[str, ...]:
        """Public keys of those whose bundles the device is to take."""


class Enroller(Protocol):
    """Turns tokens into certificates; its methods block on the disk."""

    def challenge(self) -> bytes:
        """A nonce."""

    def enrol(self, nonce: bytes, token_id: str, proof: bytes, request_der: bytes) -> Certificate:
        """A certificate for whoever shows a good token.

        Raises:
            InvalidQuestionError: the nonce or the request cannot be used.
            UnauthenticatedError: the token cannot.
        """

    def renew(
        self, nonce: bytes, certificate_der: bytes, request_der: bytes, signature: bytes
    ) -> Certificate:
        """Another certificate for whoever shows that it has one.

        Raises:
            InvalidQuestionError: nonce, certificate or request cannot be used, or it is too early.
            UnauthenticatedError: the certificate is not good for that.
        """


class EnrolmentDoor:
    """Serves ``tokenlink.v1.Enrolment``.

    Args:
        enroller: decides.
        tls: the server's certificate.
        limits: on what one address may ask.
        receive_s: time for a handshake, and for a call's request [s].
        refused: told, in one word, of every refusal.
    """

    def __init__(
        self,
        enroller: Enroller,
        tls: TlsFiles,
        limits: Limits,
        *,
        receive_s: float,
        refused: Callable[[str], None],
    ) -> None:
        self._enroller = enroller
        self._tls = TlsDoor(TlsFiles(tls.certificate, tls.key))
        self._limits = limits
        self._refused = refused
        self._server = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
                ("grpc.so_reuseport", 0),
                ("grpc.server_handshake_timeout_ms", round(receive_s * 1000)),
                ("grpc.http2.settings_timeout", round(receive_s * 1000)),
                ("grpc.max_connection_idle_ms", round(receive_s * 1000)),
            ),
            maximum_concurrent_rpcs=_MAX_CALLS,
        )

        def in_time(behaviour: Callable[[bytes, Any], Any]) -> Any:
            return read_in_time(behaviour, receive_s, lambda: refused("slow_sender"))

        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    SERVICE,
                    {
                        "Challenge": grpc.stream_unary_rpc_method_handler(
                            in_time(self._challenge),
                            response_serializer=pb.ChallengeResponse.SerializeToString,
                        ),
                        "Enrol": grpc.stream_unary_rpc_method_handler(
                            in_time(self._enrol),
                            response_serializer=pb.EnrolResponse.SerializeToString,
                        ),
                        "Renew": grpc.stream_unary_rpc_method_handler(
                            in_time(self._renew),
                            response_serializer=pb.EnrolResponse.SerializeToString,
                        ),
                    },
                ),
            )
        )

    async def start(self, host: str, port: int) -> int:
        """Listen.

        Args:
            host: address to bind.
            port: 0: any free one.

        Returns:
            The port that was bound.

        Raises:
            ConfigurationError: the address cannot be bound, or a certificate not be read.
        """
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound = self._server.add_secure_port(address, self._tls.credentials())
        except RuntimeError as error:
            raise ConfigurationError(f"enrol_port: cannot listen on {host}:{port}: {error}") from error
        await self._server.start()
        return bound

    async def stop(self, grace_s: float) -> None:
        """Accept no calls; cancel those that have not ended after the grace [s]."""
        await self._server.stop(grace_s)

    async def _challenge(self, request: bytes, context: Any) -> pb.ChallengeResponse:
        try:
            self._limits.spend(_address(context), questions=1)
        except EdgeServerError as error:
            await self._abort(context, error)
        return pb.ChallengeResponse(nonce=self._enroller.challenge())

    async def _enrol(self, request: bytes, context: Any) -> pb.EnrolResponse:
        try:
            self._limits.spend(_address(context), questions=1)
            try:
                asked = pb.EnrolRequest.FromString(request)
            except DecodeError as error:
                raise InvalidQuestionError("message", f"cannot be parsed: {error}") from error
            given = await asyncio.to_thread(
                self._enroller.enrol, asked.nonce, asked.token_id, asked.proof, asked.certificate_request
            )
        except EdgeServerError as error:
            await self._abort(context, error)
        return _response(given)

    async def _renew(self, request: bytes, context: Any) -> pb.EnrolResponse:
        try:
            self._limits.spend(_address(context), questions=1)
            try:
                asked = pb.RenewRequest.FromString(request)
            except DecodeError as error:
                raise InvalidQuestionError("message", f"cannot be parsed: {error}") from error
            given = await asyncio.to_thread(
                self._enroller.renew,
                asked.nonce,
                asked.certificate,
                asked.certificate_request,
                asked.signature,
            )
        except EdgeServerError as error:
            await self._abort(context, error)
        return _response(given)

    async def _abort(self, context: Any, error: EdgeServerError) -> NoReturn:
        reason = error.reason if isinstance(error, UnauthenticatedError) else "enrolment"
        self._refused(reason)
        logger.warning("enrolment refused", extra={"reason": reason, "address": context.peer()})
        if isinstance(error, ConfigurationError):
            # The access file: its state is the operator's business alone.
            logger.error("enrolment failed: %s", error)
            error = EngineFailureError("enrolment does not work at the moment; the server's log has why")
        failure = failure_of(error)
        await context.abort(status_of(error).grpc, str(error), ((FAILURE_KEY, failure.SerializeToString()),))
        raise AssertionError("abort always raises")


def _response(given: Certificate) -> pb.EnrolResponse:
    return pb.EnrolResponse(
        certificate=given.certificate_pem,
        authority=given.authority_pem,
        device_id=given.device_id,
        renew_at_s=given.renew_at_s,
        bundle_keys=given.bundle_keys,
    )


def _address(context: Any) -> Peer:
    # "ipv4:10.0.0.7:51234", "ipv6:%5B::1%5D:51234": the port changes with each connection.
    return Peer(context.peer().rpartition(":")[0], "")
