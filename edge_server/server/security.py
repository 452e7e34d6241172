"""What the settings say about certificates and keys, put together for the doors."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

from device_agent.bundle.signature import read_keys
from device_agent.errors import DeviceAgentError
from edge_server.access.authority import Authority
from edge_server.access.credential_store import CredentialStore
from edge_server.access.enrolment import Enrolment
from edge_server.access.renewal import Policy
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
    security = config.security
    if security.tls_cert is None or security.tls_key is None:
        return None
    # gRPC and uvicorn would say less, and later.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(security.tls_cert, security.tls_key)
    except OSError as error:
        raise ConfigurationError(
            f"tls_cert, tls_key: {security.tls_cert} and {security.tls_key} are no certificate with its "
            f"key: {error.strerror or error}"
        ) from error
    if security.tls_ca is not None:
        try:
            context.load_verify_locations(security.tls_ca)
        except OSError as error:
            raise ConfigurationError(
                f"tls_ca: {security.tls_ca} holds no certificates: {error.strerror or error}"
            ) from error
    return TlsFiles(security.tls_cert, security.tls_key, security.tls_ca)


def rest_speaks_tls(config: ServerConfig) -> bool:
    """Whether the REST door ends TLS itself."""
    return config.security.tls_cert is not None and not config.rest.behind_proxy


def credential_store_of(config: ServerConfig, wall_clock: Callable[[], float]) -> CredentialStore | None:
    """Who knows which credentials are good; None: none are asked for.

    Raises:
        ConfigurationError: there is no access file, or it is something else.
    """
    access = config.security.access
    return CredentialStore(access, wall_clock=wall_clock) if access is not None else None


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
    tls, security = tls_of(config), config.security
    if security.enrol_port is None or security.access is None or security.ca_key is None:
        return None
    if tls is None or tls.client_ca is None:
        return None
    enrolment = Enrolment(
        security.access,
        Authority.load(tls.client_ca, security.ca_key),
        policy=Policy(security.certificate_days, security.renew_expired_days),
        bundle_keys=_bundle_keys(security.bundle_keys),
        wall_clock=wall_clock,
        clock=clock,
    )
    # By address: nobody has shown yet who they are.
    limits = Limits(LimitConfig(questions_per_minute=_ENROLMENT_CALLS_PER_MINUTE), clock)
    return EnrolmentDoor(enrolment, tls, limits, receive_s=config.server.receive_s, refused=metrics.rejected)


def _bundle_keys(path: Path | None) -> tuple[str, ...]:
    if path is None:
        return ()
    try:
        return tuple(key.text for key in read_keys(path))
    except DeviceAgentError as error:
        raise ConfigurationError(str(error)) from error
