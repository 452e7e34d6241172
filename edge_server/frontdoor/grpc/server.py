"""The gRPC server around the service: ports, limits, health, reflection, draining."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from edge_server.errors import ConfigurationError
from edge_server.frontdoor.grpc.call_gate import CallGate
from edge_server.frontdoor.grpc.messages import Received, parser
from edge_server.frontdoor.grpc.service import TokenLinkService
from edge_server.frontdoor.grpc.slow_calls import begun_in_time, read_in_time
from edge_server.frontdoor.tls import Handshakes, TlsDoor, TlsFiles
from protos import keepalive
from protos.tokenlink.v1 import tokenlink_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["TokenLink"].full_name


class GrpcServer:
    """Serves a :class:`TokenLinkService`, health and reflection.

    Args:
        service: what to serve.
        gate: stands before every call.
        max_message_bytes: larger messages end their call with RESOURCE_EXHAUSTED before they are read.
        max_calls: calls at once; further ones are refused with RESOURCE_EXHAUSTED.
        max_streams: calls at once over one connection; further ones wait in its client.
        receive_s: time for a handshake, and for a call's request; a connection without a call is closed after
            as long [s].
        refused: told, in one word, of what was cut or refused before it became a question.
        tls: certificates; None: no encryption.
        shares_port: other processes of this server listen on the same port.
    """

    def __init__(
        self,
        service: TokenLinkService,
        gate: CallGate,
        *,
        max_message_bytes: int,
        max_calls: int,
        max_streams: int,
        receive_s: float,
        refused: Callable[[str], None] = lambda reason: None,
        tls: TlsFiles | None = None,
        shares_port: bool = False,
    ) -> None:
        self._service = service
        self._tls: TlsDoor | None = None
        interceptors: list[grpc.aio.ServerInterceptor] = [gate]
        if tls is not None:
            # Counted as refused once the handshake's own time, and a moment for the first call, are over.
            handshakes = Handshakes(receive_s + 1.0, lambda: refused("tls_handshake"))
            interceptors.insert(0, handshakes)
            self._tls = TlsDoor(tls, handshakes.begun)
        self._server = grpc.aio.server(
            interceptors=interceptors,
            options=(
                ("grpc.max_receive_message_length", max_message_bytes),
                # Unless they are meant to, two servers on one port would share its clients silently.
                ("grpc.so_reuseport", int(shares_port)),
                ("grpc.max_concurrent_streams", max_streams),
                *keepalive.SERVER_OPTIONS,
                ("grpc.server_handshake_timeout_ms", round(receive_s * 1000)),
                ("grpc.http2.settings_timeout", round(receive_s * 1000)),
                ("grpc.max_connection_idle_ms", round(receive_s * 1000)),
            ),
            maximum_concurrent_rpcs=max_calls,
        )
        self._health = health.aio.HealthServicer()
        self._server.add_generic_rpc_handlers(
            (_handlers(service, receive_s, lambda: refused("slow_sender")),)
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server
        )

    async def start(self, host: str, port: int) -> int:
        """Listen, and report health.

        Args:
            host: address to bind.
            port: 0: any free one.

        Returns:
            The port that was bound.

        Raises:
            ConfigurationError: the address cannot be bound.
        """
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if self._tls is None:
                bound = self._server.add_insecure_port(address)
            else:
                bound = self._server.add_secure_port(address, self._tls.credentials())
        except RuntimeError as error:
            raise ConfigurationError(f"grpc_port: cannot listen on {host}:{port}: {error}") from error
        await self._server.start()
        for name in ("", SERVICE):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        return bound

    async def announce_draining(self) -> None:
        """Report NOT_SERVING from now on, and take nothing new from open streams."""
        await self._health.enter_graceful_shutdown()
        self._service.drain()

    async def stop(self, grace_s: float) -> None:
        """Accept no calls; cancel those that have not ended after the grace [s]."""
        await self._server.stop(grace_s)


def _handlers(
    service: TokenLinkService, receive_s: float, slow: Callable[[], None]
) -> grpc.GenericRpcHandler:
    # The generated registration would hand bytes that do not parse (text that is not UTF-8, a cut
    # message) to the transport, which ends a whole Converse stream with INTERNAL. Here they reach the
    # service as what they are, and fail alone with INVALID_ARGUMENT.
    async def converse(uplink: AsyncIterator[Received[pb.UplinkFrame]], context: Any) -> None:
        await service.Converse(begun_in_time(uplink, receive_s, slow), context)

    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "OpenSession": grpc.stream_unary_rpc_method_handler(
                read_in_time(service.OpenSession, receive_s, slow),
                request_deserializer=parser(pb.OpenSessionRequest),
                response_serializer=pb.OpenSessionResponse.SerializeToString,
            ),
            "CloseSession": grpc.stream_unary_rpc_method_handler(
                read_in_time(service.CloseSession, receive_s, slow),
                request_deserializer=parser(pb.CloseSessionRequest),
                response_serializer=pb.CloseSessionResponse.SerializeToString,
            ),
            "Converse": grpc.stream_stream_rpc_method_handler(
                converse,
                request_deserializer=parser(pb.UplinkFrame),
                response_serializer=pb.DownlinkFrame.SerializeToString,
            ),
            "Ask": grpc.stream_stream_rpc_method_handler(
                read_in_time(service.Ask, receive_s, slow),
                request_deserializer=parser(pb.AskRequest),
                response_serializer=pb.DownlinkFrame.SerializeToString,
            ),
            "GetBundle": grpc.stream_stream_rpc_method_handler(
                read_in_time(service.GetBundle, receive_s, slow),
                request_deserializer=parser(pb.GetBundleRequest),
                response_serializer=pb.BundleChunk.SerializeToString,
            ),
        },
    )
