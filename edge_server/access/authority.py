"""A small certificate authority: makes itself, the server's certificate, and certificates of devices.

Nothing it signs becomes valid only later, and its own and the server's certificates do not expire unless told
to (RFC 5280, section 4.1.2.5: "99991231235959Z" for no well-defined end): a device whose clock is years off
must still be able to verify the server. Certificates of devices end; that is judged by the server's clock.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge_server.errors import ConfigurationError, InvalidQuestionError

CA_CERTIFICATE, CA_KEY = "ca.pem", "ca.key"
SERVER_CERTIFICATE, SERVER_KEY = "server.pem", "server.key"

ALWAYS_BEEN = datetime(1970, 1, 1, tzinfo=UTC)
NO_END = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)

MAX_REQUEST_BYTES = 8192
_DEVICE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Signed:
    """A certificate that was just given.

    Attributes:
        pem: the certificate.
        serial: hexadecimal, lower case.
        fingerprint: SHA-256 of its DER, hexadecimal.
        expires_s: its end, seconds since the Unix epoch.
    """

    pem: str
    serial: str
    fingerprint: str
    expires_s: float


class Authority:
    """Signs certificates of devices.

    Args:
        certificate: the authority's.
        key: that belongs to it.
    """

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def load(cls, certificate_path: Path, key_path: Path) -> Authority:
        """An authority from its two PEM files.

        Raises:
            ConfigurationError: one cannot be read, or they do not belong together.
        """
        certificate, key = read_certificate(certificate_path), read_key(key_path)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ConfigurationError(f"ca_key: {key_path} is not the key of {certificate_path}")
        return cls(certificate, key)

    @property
    def pem(self) -> str:
        """Its certificate."""
        return self._certificate.public_bytes(Encoding.PEM).decode()

    def sign_key(
        self, public_key: ec.EllipticCurvePublicKey, device_id: str, now: datetime, days: float
    ) -> Signed:
        """Give a device a certificate.

        Args:
            public_key: the device's.
            device_id: becomes the common name.
            now: the server's clock.
            days: until it ends.
        """
        end = NO_END if days >= (NO_END - now).days else now + timedelta(days=days)
        certificate = _sign(
            self._builder(device_id, public_key, end)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(_usage(is_authority=False), critical=True),
            self._key,
        )
        return Signed(
            pem=certificate.public_bytes(Encoding.PEM).decode(),
            serial=serial_of(certificate),
            fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
            expires_s=end.timestamp(),
        )

    def make_server(self, folder: Path, names: Sequence[str], days: float | None) -> None:
        """Write a certificate for a server, and its key.

        Args:
            folder: where to.
            names: host names and addresses under which devices reach it.
            days: until it ends; None: it does not, which devices with a wrong clock need.

        Raises:
            ConfigurationError: the files cannot be written, or there is no name.
        """
        end = NO_END if days is None else datetime.now(UTC) + timedelta(days=days)
        self._make_server(
            (folder / SERVER_CERTIFICATE, folder / SERVER_KEY), names, end, ExtendedKeyUsageOID.SERVER_AUTH
        )

    def make_broker(self, folder: Path, stem: str, names: Sequence[str]) -> tuple[Path, Path]:
        """Write a certificate, and its key, for a server that is a client of others like it, too.

        Args:
            folder: where to.
            stem: of the files' names.
            names: host names and addresses under which it is reached.

        Returns:
            The files.

        Raises:
            ConfigurationError: the files cannot be written.
        """
        files = folder / f"{stem}.pem", folder / f"{stem}.key"
        both = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
        self._make_server(files, names, NO_END, *both)
        return files

    def _make_server(
        self, files: tuple[Path, Path], names: Sequence[str], end: datetime, *usages: x509.ObjectIdentifier
    ) -> None:
        if not names:
            raise ConfigurationError("name: at least one host name or address is needed")
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _sign(
            self._builder(names[0][:64], key.public_key(), end)
            .add_extension(x509.SubjectAlternativeName([_san(name) for name in names]), critical=False)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(_usage(is_authority=False), critical=True),
            self._key,
        )
        write_private(files[1], key_pem(key))
        # The chain: who knows the authority needs only the first, others see from the second whose it is.
        write_private(files[0], certificate.public_bytes(Encoding.PEM) + self.pem.encode())

    def _builder(
        self, common_name: str, public_key: ec.EllipticCurvePublicKey, end: datetime
    ) -> x509.CertificateBuilder:
        issuer = self._certificate
        return _builder(common_name, public_key, issuer.subject, end, is_authority=False).add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
        )


def read_request(request_der: bytes) -> ec.EllipticCurvePublicKey:
    """The key that a certificate is asked for; whoever asks has it.

    Args:
        request_der: PKCS #10 request (RFC 2986). Only its key and its signature count.

    Raises:
        InvalidQuestionError: it is none, or its key is of a kind that is not taken.
    """
    field = "certificate_request"
    if len(request_der) > MAX_REQUEST_BYTES:
        raise InvalidQuestionError(
            field, f"takes {len(request_der)} bytes; at most {MAX_REQUEST_BYTES} are allowed"
        )
    try:
        request = x509.load_der_x509_csr(request_der)
        public_key = request.public_key()
        signed_by_its_key = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidQuestionError(field, "is no PKCS #10 request in DER") from error
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(
        public_key.curve, ec.SECP256R1
    ):
        raise InvalidQuestionError(field, "holds another kind of key than ECDSA on P-256")
    if not signed_by_its_key:
        raise InvalidQuestionError(field, "is not signed by the key in it")
    return public_key


def make_authority(folder: Path, name: str) -> Authority:
    """Make an authority and write its certificate and key.

    Raises:
        ConfigurationError: there is one already, or it cannot be written.
    """
    for path in (folder / CA_CERTIFICATE, folder / CA_KEY):
        if path.exists():
            raise ConfigurationError(f"{path} is there already; it is not overwritten: name another folder")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    certificate = _sign(
        _builder(name, key.public_key(), subject, NO_END, is_authority=True).add_extension(
            _usage(is_authority=True), critical=True
        ),
        key,
    )
    write_private(folder / CA_KEY, key_pem(key))
    write_private(folder / CA_CERTIFICATE, certificate.public_bytes(Encoding.PEM))
    return Authority(certificate, key)


def check_device_id(device_id: str) -> str:
    """A name that a certificate can be given for.

    Raises:
        ConfigurationError: it is none.
    """
    if not _DEVICE_ID.fullmatch(device_id):
        raise ConfigurationError(
            f"device_id is {device_id[:80]!r}; letters, digits, '.', '_' and '-' are allowed, 1 to 64 of them"
        )
    return device_id


def serial_of(certificate: x509.Certificate) -> str:
    """The serial number as it stands in the access file."""
    return f"{certificate.serial_number:x}"


def common_name_of(certificate: x509.Certificate) -> str:
    """The subject's common name; empty where there is not exactly one."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if len(names) == 1 else ""


def read_certificate(path: Path) -> x509.Certificate:
    """The first certificate of a PEM file.

    Raises:
        ConfigurationError: it cannot be read, or holds none.
    """
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())[0]
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, IndexError) as error:
        raise ConfigurationError(f"{path} holds no certificate in PEM") from error


def read_pem(pem: str) -> x509.Certificate:
    """A certificate that was given here, from its PEM."""
    return x509.load_pem_x509_certificate(pem.encode())


def read_key(path: Path) -> object:
    """The private key of a PEM file, of whatever kind.

    Raises:
        ConfigurationError: it cannot be read, or holds none.
    """
    try:
        return load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"{path} holds no private key in PEM without a password") from error


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as PEM, not encrypted: the file's mode protects it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read; whole, or not at all.

    Raises:
        ConfigurationError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(data)
        draft.replace(path)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _san(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    common_name: str,
    public_key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    end: datetime,
    *,
    is_authority: bool,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(ALWAYS_BEEN)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(is_authority, 0 if is_authority else None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _sign(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    return builder.sign(key, hashes.SHA256())
