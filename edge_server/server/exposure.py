"""What has to be set before the server listens where others can reach it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from edge_server.errors import ConfigurationError
from edge_server.server.config import ServerConfig


def check_exposure(config: ServerConfig) -> None:
    """Settings of certificates and keys that belong together, and enough of them for the address.

    Raises:
        ConfigurationError: says what is missing, and what it is for.
    """
    security = config.security
    for setting, needed, why in (
        ("tls_cert", "tls_key", "a certificate is of no use without its key"),
        ("tls_key", "tls_cert", "a key is of no use without its certificate"),
        ("tls_ca", "tls_cert", "devices show certificates only over TLS"),
        ("tls_ca", "access", "it says which of the authority's certificates are good"),
        ("enrol_port", "ca_key", "it signs the certificates of devices"),
        ("enrol_port", "tls_ca", "the certificates that are given have to be of use"),
    ):
        if getattr(security, setting) is not None and getattr(security, needed) is None:
            raise ConfigurationError(f"{setting} is set and {needed} is not: {why}")
    if is_loopback(config.server.host) or security.trusted_network:
        return
    missing = list(_missing(config))
    if missing:
        raise ConfigurationError(
            f"host is {config.server.host}, which others can reach, but {'; '.join(missing)}. Make "
            "certificates with `edge-server certs init` and keys with `edge-server keys add`, or listen on "
            "127.0.0.1, or, where everybody on the network may ask, set trusted_network (--trusted-network)"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _missing(config: ServerConfig) -> Iterator[str]:
    if config.security.tls_ca is None:
        yield "gRPC would let in every device (tls_cert, tls_key, tls_ca and access are needed)"
    if config.security.tls_cert is None and not config.rest.behind_proxy:
        yield "REST would not be encrypted (tls_cert and tls_key, or rest_behind_proxy, is needed)"
    if config.security.access is None:
        yield "REST would answer without a key (access is needed)"
