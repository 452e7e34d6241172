"""The REST door's server: uvicorn, on a socket of ours."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import uvicorn

from edge_server.errors import ConfigurationError
from edge_server.frontdoor.tls import TlsFiles
from edge_server.server.addresses import host_port

logger = logging.getLogger(__name__)

# uvicorn's ticks, ten a second, between two looks at the files of the certificate.
_LOOK_EACH_TICKS = 10


class RestServer(uvicorn.Server):
    """Leaves signals to the process, gives TLS handshakes a deadline, takes up a new certificate by itself.

    Args:
        config: uvicorn's, with the same files.
        handshake_s: time for a handshake [s].
        tls: its certificate and key; None: it speaks plain HTTP.
    """

    def __init__(self, config: uvicorn.Config, *, handshake_s: float, tls: TlsFiles | None) -> None:
        super().__init__(config)
        self._handshake_s = handshake_s
        self._tls = tls
        self._stamp = tls.stamp() if tls is not None else ()

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

    async def on_tick(self, counter: int) -> bool:
        """As uvicorn's, and look whether the certificate is a new one."""
        if self._tls is not None and counter % _LOOK_EACH_TICKS == 0:
            self._read_again(self._tls)
        return await super().on_tick(counter)

    def _read_again(self, tls: TlsFiles) -> None:
        """Show what is in the files from the next connection on, if they have changed."""
        with contextlib.suppress(OSError):  # being replaced: there is a next look
            stamp = tls.stamp()
            if stamp == self._stamp or self.config.ssl is None:
                return
            self._stamp = stamp
            try:
                # Tried elsewhere first: one that does not go with its key would leave a context with no key.
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, tls.key)
                self.config.ssl.load_cert_chain(tls.certificate, tls.key)
            except ssl.SSLError as error:
                logger.error("REST's certificate cannot be read again; the one before stays: %s", error)
                return
            logger.info("REST's certificate was read again")

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield


def listen(host: str, port: int, *, shared: bool = False, setting: str = "rest_port") -> socket.socket:
    """A socket that is bound to an address.

    Args:
        host: address.
        port: 0: any free one.
        shared: with other processes that say so too; the kernel gives each connection to one of them.
        setting: that names the port, for messages.

    Raises:
        ConfigurationError: it cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, or asyncio would not know that it is TCP, and answers would wait 40 ms for acknowledgements.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise ConfigurationError(
            f"{setting}: cannot listen on {host_port(host, port)}: {error.strerror}"
        ) from error
    return sock
