"""Addresses of servers, as users write them and as gRPC takes them."""

from __future__ import annotations

DEFAULT_PORT = 50051


def host_and_port(server: str) -> tuple[str, int] | None:
    """The address in a gRPC target; None where it names no host and port."""
    address = server.removeprefix("dns:").removeprefix("///")
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not int(port) < 2**16:
        return None
    return host.removeprefix("[").removesuffix("]"), int(port)


def with_port(server: str, port: int = DEFAULT_PORT) -> str:
    """An address with a port: without one, gRPC would take that of HTTPS.

    Args:
        server: ``host``, ``host:port``, ``[IPv6]:port``, an IPv6 address alone, or a target of gRPC's such as
            ``dns:///host:port`` or ``unix:/path``, which is left as it is.
        port: where none is named.

    Raises:
        ValueError: it is a URL, or its port is none.
    """
    server = server.strip()
    if "://" in server and not server.startswith("dns:"):
        raise ValueError("is a URL; HOST:PORT is needed")
    if "/" in server or server.startswith(("dns:", "unix:", "unix-abstract:", "ipv4:", "ipv6:", "vsock:")):
        return server
    if server.startswith("["):
        return server if "]:" in server else f"{server}:{port}"
    if server.count(":") > 1:
        return f"[{server}]:{port}"
    if ":" not in server:
        return f"{server}:{port}"
    if host_and_port(server) is None:
        raise ValueError("names no port from 0 to 65535; HOST:PORT is needed")
    return server
