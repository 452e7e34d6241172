"""TLS at the doors: certificates that are read again when they change, and handshakes that lead nowhere.

gRPC for Python either requires a client's certificate or does not ask for one; there is nothing in between.
So TokenLink's door requires one, and enrolment, whose callers have none yet, has a door of its own. Nor does
gRPC tell anybody of handshakes that fail (it writes a line to standard error): what can be counted is those
that begin, and those after which somebody asks something.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from edge_server.errors import ConfigurationError
from edge_server.frontdoor.handlers import stand_before

logger = logging.getLogger(__name__)

_CONNECTIONS_REMEMBERED = 16_384


@dataclass(frozen=True)
class TlsFiles:
    """What a door shows, and whom it asks to show something.

    Attributes:
        certificate: PEM chain of the server.
        key: that belongs to it.
        client_ca: PEM of the authorities whose certificates clients must show; None: they show none.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def stamp(self) -> tuple[int, ...]:
        """When they were last changed; another one after each change.

        Raises:
            OSError: one is not there.
        """
        paths = (self.certificate, self.key, self.client_ca)
        return tuple(path.stat().st_mtime_ns for path in paths if path is not None)


class TlsDoor:
    """Makes gRPC's credentials from files, and again from each new connection on if they have changed.

    Args:
        files: which.
        on_handshake: called for each handshake that begins, from threads of gRPC's.
    """

    def __init__(self, files: TlsFiles, on_handshake: Callable[[], None] = lambda: None) -> None:
        self._files = files
        self._on_handshake = on_handshake
        self._lock = threading.Lock()
        self._stamp: tuple[int, ...] = ()

    def credentials(self) -> grpc.ServerCredentials:
        """For a port.

        Raises:
            ConfigurationError: a file cannot be read.
        """
        try:
            self._stamp = self._files.stamp()
            first = self._read()
        except OSError as error:
            raise ConfigurationError(f"tls: {error.filename} cannot be read: {error.strerror}") from error
        return grpc.dynamic_ssl_server_credentials(
            first,
            self._renewed,  # type: ignore[arg-type]  # None is allowed, and means: as before
            require_client_authentication=self._files.client_ca is not None,
        )

    def _renewed(self) -> grpc.ServerCertificateConfiguration | None:
        self._on_handshake()
        with self._lock:
            try:
                stamp = self._files.stamp()
                if stamp == self._stamp:
                    return None
                renewed = self._read()
            except OSError as error:
                logger.error("a certificate cannot be read again; the one before stays: %s", error)
                return None
            self._stamp = stamp
        logger.info("certificates were read again")
        return renewed

    def _read(self) -> grpc.ServerCertificateConfiguration:
        files = self._files
        return grpc.ssl_server_certificate_configuration(
            [(files.key.read_bytes(), files.certificate.read_bytes())],
            files.client_ca.read_bytes() if files.client_ca is not None else None,
        )


class Handshakes(grpc.aio.ServerInterceptor):
    """Reports connections that began a TLS handshake and had not made a call some time later.

    Which of them it was cannot be told, only how many: each connection's first call answers for the oldest
    handshake that has not led to one yet.

    Args:
        within_s: time that a connection has for its first call [s].
        report: called for each that did not.
    """

    def __init__(self, within_s: float, report: Callable[[], None]) -> None:
        self._within_s = within_s
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._pending: deque[float] = deque()
        self._connections: OrderedDict[str, None] = OrderedDict()

    def begun(self) -> None:
        """A handshake began; from any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._begun)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Notice each call's connection."""
        return await stand_before(continuation, handler_call_details, self._noticing)

    def _noticing(self, behaviour: Callable[..., Any]) -> Callable[..., Any]:
        # gRPC asks a handler's function which of the two it is.
        if inspect.isasyncgenfunction(behaviour):

            async def generate(request: Any, context: Any) -> Any:
                self._asked(context.peer())
                async for response in behaviour(request, context):
                    yield response

            return generate

        async def call(request: Any, context: Any) -> Any:
            self._asked(context.peer())
            return await behaviour(request, context)

        return call

    def _begun(self) -> None:
        self._pending.append(self._loop.time() + self._within_s)
        self._loop.call_later(self._within_s, self._expire)

    def _asked(self, connection: str) -> None:
        if connection in self._connections:
            self._connections.move_to_end(connection)
            return
        self._connections[connection] = None
        if len(self._connections) > _CONNECTIONS_REMEMBERED:
            self._connections.popitem(last=False)
        if self._pending:
            self._pending.popleft()

    def _expire(self) -> None:
        count = 0
        # The timer may run a little early, by its own clock's grain.
        while self._pending and self._pending[0] <= self._loop.time() + 0.01:
            self._pending.popleft()
            self._report()
            count += 1
        if count:
            logger.warning(
                "TLS handshakes led to no call; gRPC's own lines say why, where they failed",
                extra={"handshakes": count},
            )
