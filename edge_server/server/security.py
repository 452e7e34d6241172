"""What the settings say about certificates and keys, put together for the doors."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from edge_server.access.authority import Authority
from edge_server.access.credential_store import CredentialStore
from edge_server.access.enrolment import Enrolment
from edge_server.cell import LimitConfig, Limits
from edge_server.errors import ConfigurationError
from edge_server.frontdoor.grpc.enrolment import EnrolmentDoor
from edge_server.frontdoor.metrics import Metrics
from edge_server.frontdoor.tls import TlsFiles
from edge_server.server.config import ServerConfig

_ENROLMENT_CALLS_PER_MINUTE = 60.0


def tls_of(config: ServerConfig) -> TlsFiles | None:
    """The files of the gRPC door, checked; None: it does not speak TLS.

    Raises:
        ConfigurationError: one cannot be read, or certificate and key do not belong together.
    """
    if config.tls_cert is None or config.tls_key is None:
        return None
    # gRPC and uvicorn would say less, and later.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(config.tls_cert, config.tls_key)
    except OSError as error:
        raise ConfigurationError(
            f"tls_cert, tls_key: {config.tls_cert} and {config.tls_key} are no certificate with its key: "
            f"{error.strerror or error}"
        ) from error
    if config.tls_ca is not None:
        try:
            context.load_verify_locations(config.tls_ca)
        except OSError as error:
            raise ConfigurationError(
                f"tls_ca: {config.tls_ca} holds no certificates: {error.strerror or error}"
            ) from error
    return TlsFiles(config.tls_cert, config.tls_key, config.tls_ca)


def rest_speaks_tls(config: ServerConfig) -> bool:
    """Whether the REST door ends TLS itself."""
    return config.tls_cert is not None and not config.rest_behind_proxy


def credential_store_of(config: ServerConfig, wall_clock: Callable[[], float]) -> CredentialStore | None:
    """Who knows which credentials are good; None: none are asked for.

    Raises:
        ConfigurationError: there is no access file, or it is something else.
    """
    return CredentialStore(config.access, wall_clock=wall_clock) if config.access is not None else None


def enrolment_door_of(
    config: ServerConfig,
    metrics: Metrics,
    clock: Callable[[], float],
    wall_clock: Callable[[], float],
) -> EnrolmentDoor | None:
    """The door at which devices get certificates; None: nobody can.

    Raises:
        ConfigurationError: the authority's files cannot be read.
    """
    tls = tls_of(config)
    if config.enrol_port is None or config.access is None or config.ca_key is None:
        return None
    if tls is None or tls.client_ca is None:
        return None
    enrolment = Enrolment(
        config.access,
        Authority.load(tls.client_ca, config.ca_key),
        days=config.certificate_days,
        wall_clock=wall_clock,
        clock=clock,
    )
    # By address: nobody has shown yet who they are.
    limits = Limits(LimitConfig(questions_per_minute=_ENROLMENT_CALLS_PER_MINUTE), clock)
    return EnrolmentDoor(enrolment, tls, limits, receive_s=config.receive_s, refused=metrics.rejected)
