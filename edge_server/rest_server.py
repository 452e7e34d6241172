"""The REST door's server: uvicorn, on a socket of ours."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from edge_server.addresses import host_port
from edge_server.errors import ConfigurationError


class RestServer(uvicorn.Server):
    """Leaves the signals to the process, and gives TLS handshakes a deadline.

    Args:
        config: uvicorn's.
        handshake_s: time for a handshake [s].
    """

    def __init__(self, config: uvicorn.Config, *, handshake_s: float) -> None:
        super().__init__(config)
        self._handshake_s = handshake_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on the sockets that were passed."""
        config = self.config
        protocol: Any = config.http_protocol_class
        self.servers = [
            await asyncio.get_running_loop().create_server(
                lambda: protocol(config=config, server_state=self.server_state, app_state={}),
                sock=sock,
                ssl=config.ssl,
                ssl_handshake_timeout=self._handshake_s if config.ssl is not None else None,
                backlog=config.backlog,
            )
            for sock in sockets or []
        ]
        self.started = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound to an address.

    Args:
        host: address.
        port: 0: any free one.

    Raises:
        ConfigurationError: it cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, or asyncio would not know that it is TCP, and answers would wait 40 ms for acknowledgements.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise ConfigurationError(
            f"rest_port: cannot listen on {host_port(host, port)}: {error.strerror}"
        ) from error
    return sock
