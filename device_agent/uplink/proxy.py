"""Whether the link goes through a proxy that the environment names.

gRPC takes ``http_proxy`` for every address, also for this machine's own and its neighbours', which a proxy
that stands at the edge of a company's network cannot reach. Here, such addresses are reached directly unless
the settings say otherwise. Source: gRPC, doc/environment_variables.md.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from device_agent.uplink.address import host_and_port

VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
"""What gRPC looks at, in its order."""
EXCEPTIONS = ("no_grpc_proxy", "no_proxy")
"""Likewise, for where no proxy is wanted."""
LOCAL_SUFFIXES = (".local", ".lan", ".home", ".internal", ".localhost", ".home.arpa")

DIRECT: tuple[tuple[str, int], ...] = (("grpc.enable_http_proxy", 0),)
"""Channel arguments of a link that takes no proxy."""


def is_near(host: str) -> bool:
    """Whether a host is this machine or a neighbour, as far as its name or address says; nobody is asked."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        name = host.rstrip(".").lower()
        # Names without a dot are those of a compose file, a cluster, or the local network.
        return "." not in name or name.endswith(LOCAL_SUFFIXES)
    return address.is_private or address.is_loopback or address.is_link_local


def proxy_of(
    server: str, use_proxy: bool | None, environment: Mapping[str, str] | None = None
) -> tuple[str, str] | None:
    """The proxy that the link goes through.

    Args:
        server: address, ``host:port``.
        use_proxy: as set; None: only to hosts that are not near.
        environment: where proxies are named; None: this process's.

    Returns:
        The variable and the proxy without its password; None: the link is direct.
    """
    environment = os.environ if environment is None else environment
    named = next(((name, environment[name]) for name in VARIABLES if environment.get(name)), None)
    address = host_and_port(server)
    host = address[0] if address is not None else server
    if named is None or use_proxy is False or (use_proxy is None and is_near(host)):
        return None
    exceptions = next((environment[name] for name in EXCEPTIONS if environment.get(name)), "")
    if any(host.endswith(each.strip()) for each in exceptions.split(",") if each.strip()):
        return None
    name, url = named
    return name, _without_password(url)


def proxy_options(server: str, use_proxy: bool | None) -> tuple[tuple[str, int], ...]:
    """Channel arguments by which gRPC does what :func:`proxy_of` says."""
    return DIRECT if proxy_of(server, use_proxy) is None else ()


def _without_password(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a proxy"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
