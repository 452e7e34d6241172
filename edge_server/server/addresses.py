"""Where a server's doors are open."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Addresses:
    """Where the doors are open."""

    host: str
    grpc_port: int
    rest_port: int
    enrol_port: int | None = None
    rest_scheme: str = "http"
    own_rest_port: int | None = None

    @property
    def grpc(self) -> str:
        """Target of a gRPC channel."""
        return host_port(self.host, self.grpc_port)

    @property
    def rest(self) -> str:
        """Base URL of the REST door."""
        return f"{self.rest_scheme}://{host_port(self.host, self.rest_port)}"

    @property
    def own_rest(self) -> str:
        """Base URL at which this process alone answers over HTTP; others may share :attr:`rest`."""
        return f"{self.rest_scheme}://{host_port(self.host, self.own_rest_port or self.rest_port)}"

    @property
    def enrol(self) -> str | None:
        """Target of a gRPC channel for enrolment, where that is open."""
        return None if self.enrol_port is None else host_port(self.host, self.enrol_port)


def host_port(host: str, port: int) -> str:
    """Both in one, as a URL has them: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
