"""What a device shows an edge server, and by what it knows one: files, and gRPC's credentials from them.

    IDENTITY/ca.pem        the authority that signs servers' certificates
    IDENTITY/device.pem    this device's certificate
    IDENTITY/device.key    its key, made here; never sent
    IDENTITY/renewal.json  where it gets its next certificate, and when
    IDENTITY/bundle.keys   public keys of those whose bundles it takes; where there is none, it takes any

A server is known by the authority's signature and its name. Its certificate does not expire unless its
operator wants that, so the device's clock does not matter: it may be years off.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import grpc

from device_agent.errors import ConfigurationError
from protos.names import check_device_name

AUTHORITY, CERTIFICATE, KEY = "ca.pem", "device.pem", "device.key"
BUNDLE_KEYS, RENEWAL, PENDING_KEY = "bundle.keys", "renewal.json", "device.key.pending"


@dataclass(frozen=True)
class Credentials:
    """What TLS needs.

    Attributes:
        authority: PEM of those who sign servers' certificates.
        certificate: PEM of the device's; None: the server asks for none.
        key: that belongs to it, PEM.
        device_id: the name in the certificate; None where there is none.
        server_name: the name in the server's certificate, where that is not the one in its address.
    """

    authority: bytes
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    device_id: str | None = None
    server_name: str | None = None

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """For a channel of gRPC's."""
        return grpc.ssl_channel_credentials(self.authority, self.key, self.certificate)

    def channel_options(self) -> tuple[tuple[str, str], ...]:
        """Options that a channel needs beside them."""
        if self.server_name is None:
            return ()
        return (("grpc.ssl_target_name_override", self.server_name),)


def load_credentials(
    authority: Path, certificate: Path | None, key: Path | None, server_name: str | None
) -> Credentials:
    """Credentials from PEM files.

    Raises:
        ConfigurationError: one cannot be read, or the two of the device do not belong together.
    """
    if (certificate is None) != (key is None):
        raise ConfigurationError("tls_cert and tls_key: only one of them is set; a certificate needs its key")
    device_id = None if certificate is None or key is None else _device_of(certificate, key)
    return Credentials(
        authority=_read("tls_ca", authority),
        certificate=None if certificate is None else _read("tls_cert", certificate),
        key=None if key is None else _read("tls_key", key),
        device_id=device_id,
        server_name=server_name,
    )


class Renews(Protocol):
    """Gets the device its next certificate."""

    def is_due(self, server_time_s: float) -> bool:
        """Whether it is time for it, by the server's clock [seconds since the Unix epoch]."""

    def may_help(self, error: Exception) -> bool:
        """Whether a server that cannot be reached, or refuses, may do so for want of a good certificate."""

    async def renew(self) -> Credentials | None:
        """What to show from now on; None: there is none to be had now, which has been said."""


def mend_identity(folder: Path) -> None:
    """Where a new certificate is in place and its key is not yet, put it there: a power cut may lie between.

    Raises:
        OSError: the folder cannot be read or written.
    """
    pending = folder / PENDING_KEY
    if not pending.is_file() or not (folder / CERTIFICATE).is_file():
        return
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        certificate = x509.load_pem_x509_certificate((folder / CERTIFICATE).read_bytes())
        key = load_pem_private_key(pending.read_bytes(), None)
    except (ValueError, TypeError):
        return
    if key.public_key() == certificate.public_key():
        pending.replace(folder / KEY)


def _read(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{setting}: {path} cannot be read: {error.strerror}") from error


def _device_of(certificate_path: Path, key_path: Path) -> str:
    from cryptography import x509  # only devices with a certificate pay for it
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from cryptography.x509.oid import NameOID

    try:
        certificate = x509.load_pem_x509_certificate(_read("tls_cert", certificate_path))
    except ValueError as error:
        raise ConfigurationError(f"tls_cert: {certificate_path} holds no certificate in PEM") from error
    try:
        key = load_pem_private_key(_read("tls_key", key_path), None)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"tls_key: {key_path} holds no private key in PEM") from error
    if key.public_key() != certificate.public_key():
        raise ConfigurationError(f"tls_key: {key_path} is not the key of {certificate_path}")
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(names) != 1:
        raise ConfigurationError(f"tls_cert: {certificate_path} names no device")
    try:
        return check_device_name(str(names[0].value))
    except ValueError as error:
        raise ConfigurationError(
            f"tls_cert: {certificate_path} names the device {names[0].value!r}; {error}"
        ) from error
