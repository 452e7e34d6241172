"""The gRPC server around the service: ports, limits, health, reflection, draining."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from edge_server.errors import ConfigurationError
from edge_server.frontdoor.grpc_service import Malformed, TokenLinkService
from protos import keepalive
from protos.tokenlink.v1 import tokenlink_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["TokenLink"].full_name

_Message = TypeVar("_Message", bound=Message)


class GrpcServer:
    """Serves a :class:`TokenLinkService`, health and reflection.

    Args:
        service: what to serve.
        max_message_bytes: larger messages end their call with RESOURCE_EXHAUSTED before they are read.
        max_calls: calls at once; further ones are refused with RESOURCE_EXHAUSTED.
        max_streams: calls at once over one connection; further ones wait in its client.
    """

    def __init__(
        self, service: TokenLinkService, *, max_message_bytes: int, max_calls: int, max_streams: int
    ) -> None:
        self._service = service
        self._server = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", max_message_bytes),
                # Otherwise two servers on one port would share its clients silently.
                ("grpc.so_reuseport", 0),
                ("grpc.max_concurrent_streams", max_streams),
                *keepalive.SERVER_OPTIONS,
            ),
            maximum_concurrent_rpcs=max_calls,
        )
        self._health = health.aio.HealthServicer()
        self._server.add_generic_rpc_handlers((_handlers(service),))
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
        try:
            bound = self._server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
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


def _handlers(service: TokenLinkService) -> grpc.GenericRpcHandler:
    # The generated registration would hand bytes that do not parse (text that is not UTF-8, a cut
    # message) to the transport, which ends a whole Converse stream with INTERNAL. Here they reach the
    # service as what they are, and fail alone with INVALID_ARGUMENT.
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "OpenSession": grpc.unary_unary_rpc_method_handler(
                service.OpenSession,
                request_deserializer=_parser(pb.OpenSessionRequest),
                response_serializer=pb.OpenSessionResponse.SerializeToString,
            ),
            "CloseSession": grpc.unary_unary_rpc_method_handler(
                service.CloseSession,
                request_deserializer=_parser(pb.CloseSessionRequest),
                response_serializer=pb.CloseSessionResponse.SerializeToString,
            ),
            "Converse": grpc.stream_stream_rpc_method_handler(
                service.Converse,
                request_deserializer=_parser(pb.UplinkFrame),
                response_serializer=pb.DownlinkFrame.SerializeToString,
            ),
            "Ask": grpc.unary_stream_rpc_method_handler(
                service.Ask,
                request_deserializer=_parser(pb.AskRequest),
                response_serializer=pb.DownlinkFrame.SerializeToString,
            ),
            "GetBundle": grpc.unary_stream_rpc_method_handler(
                service.GetBundle,
                request_deserializer=_parser(pb.GetBundleRequest),
                response_serializer=pb.BundleChunk.SerializeToString,
            ),
        },
    )


def _parser(message_type: type[_Message]) -> Callable[[bytes], _Message | Malformed]:
    def parse(data: bytes) -> _Message | Malformed:
        try:
            return message_type.FromString(data)
        except DecodeError as error:
            return Malformed(str(error))

    return parse
