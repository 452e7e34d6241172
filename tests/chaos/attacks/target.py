"""Who is attacked, from which address, with what."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from device_agent.uplink.credentials import Credentials


@dataclass
class Target:
    """A server, and what its attacker has.

    Attributes:
        grpc: address of the gRPC door.
        rest: URL of the REST door.
        authority: PEM of who signed its certificate; None: it speaks no TLS.
        certificate: of an enrolled device; None: the attacker has none.
        key: for REST; None: the attacker has none.
        address: of this machine, from which the attacker comes.
        until_s: when it is enough [monotonic s].
        counts: what was done, and what came of it.
    """

    grpc: str
    rest: str
    authority: bytes | None = None
    certificate: Credentials | None = None
    key: str | None = None
    address: str = "127.0.0.2"
    until_s: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def goes_on(self) -> bool:
        """Whether it is not enough yet."""
        return time.monotonic() < self.until_s

    @property
    def left_s(self) -> float:
        """How long it goes on [s]."""
        return max(self.until_s - time.monotonic(), 0.0)

    @property
    def tls(self) -> ssl.SSLContext | None:
        """For connections to the REST door."""
        if self.authority is None:
            return None
        return ssl.create_default_context(cadata=self.authority.decode())

    @contextlib.asynccontextmanager
    async def line(
        self, *, door: str = "rest", bare: bool = False
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection.

        Args:
            door: ``rest`` or ``grpc``.
            bare: without a handshake.
        """
        where = urlsplit(self.rest if door == "rest" else f"//{self.grpc}")
        tls = None if bare or door == "grpc" else self.tls
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            where.port,
            ssl=tls,
            server_hostname="localhost" if tls is not None else None,
            local_addr=(self.address, 0),
        )
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    def head(self, method: str, path: str, *lines: str) -> bytes:
        """Of a request."""
        key = () if self.key is None else (f"Authorization: Bearer {self.key}",)
        return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: localhost", *key, *lines, "", "")).encode()
