"""Gets this device its certificate, with a one-time token.

    key (made here, kept here) ─▶ request ─┐
    token: id, secret, authority ──────────┼─▶ Enrolment ─▶ certificate
    nonce (the server's) ──────────────────┘

The authority in the token verifies the server; the proof shows the secret without sending it
(:mod:`protos.enrolment`). The device's clock plays no part. A key that was made for a token whose answer got
lost is used again, and the server gives the same certificate.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeAlias

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from device_agent.bundle.signature import BundleKey
from device_agent.errors import ConfigurationError, DeviceAgentError, ServerUnreachableError
from device_agent.uplink.credentials import (
    AUTHORITY,
    BUNDLE_KEYS,
    CERTIFICATE,
    KEY,
    PENDING_KEY,
    RENEWAL,
    Credentials,
    load_credentials,
    mend_identity,
)
from device_agent.uplink.proxy import proxy_options
from device_agent.uplink.status import TryAgainError, error_of_call, heard
from protos.enrolment import EnrolToken, TokenError, make_proof, renewal_message
from protos.tokenlink.v1 import enrolment_pb2 as pb
from protos.tokenlink.v1.enrolment_pb2_grpc import EnrolmentStub

CALL_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class Identity:
    """What a device has after it enrolled."""

    device_id: str
    folder: Path


@dataclass(frozen=True)
class Renewal:
    """How and when this device gets its next certificate.

    Attributes:
        server: address of the enrolment door, ``host:port``.
        server_name: in the server's certificate, where that is not the one in its address.
        renew_at_s: from when on, by the server's clock [seconds since the Unix epoch].
    """

    server: str
    server_name: str | None
    renew_at_s: float

    @classmethod
    def read(cls, folder: Path) -> Renewal | None:
        """What was noted in an identity's folder; None: nothing, or nothing of use."""
        try:
            noted = json.loads((folder / RENEWAL).read_text(encoding="utf-8"))
            name = noted["server_name"]
            return cls(str(noted["server"]), None if name is None else str(name), float(noted["renew_at_s"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, folder: Path) -> None:
        """Note it in an identity's folder."""
        _write_private(folder / RENEWAL, json.dumps(asdict(self)).encode())


async def enrol(
    server: str,
    token_text: str,
    folder: Path,
    *,
    server_name: str | None = None,
    use_proxy: bool | None = None,
) -> Identity:
    """Get a certificate and keep it with its key; and the keys of who signs bundles, if the server names any.

    Args:
        server: address of the enrolment door, ``host:port``.
        token_text: the one-time token.
        folder: where key and certificates are kept; what is there stays until the new ones are.
        server_name: in the server's certificate, where that is not the one in its address.
        use_proxy: go through the proxy that the environment names; None: not to neighbours.

    Raises:
        ConfigurationError: the token is none, or the folder cannot be written.
        UnauthenticatedError: the server does not take the token.
        UplinkError, RefusedError: it cannot be had.
    """
    try:
        token = EnrolToken.from_text(token_text)
    except TokenError as error:
        raise ConfigurationError(
            f"token: {error}; copy the whole line of `edge-server enrol-token`"
        ) from error
    authority = ssl.DER_cert_to_PEM_cert(token.authority_der).encode()

    async def ask(stub: EnrolmentStub, nonce: bytes, request: bytes) -> pb.EnrolResponse:
        asked = pb.EnrolRequest(
            nonce=nonce,
            token_id=token.token_id,
            proof=make_proof(token, nonce, request),
            certificate_request=request,
        )
        given: pb.EnrolResponse = await stub.Enrol(asked, timeout=CALL_TIMEOUT_S)
        return given

    try:
        key = _pending_key(folder)
        response = await _call(server, Credentials(authority, server_name=server_name), use_proxy, key, ask)
        _write_private(folder / AUTHORITY, authority)
        if response.bundle_keys:
            _write_private(folder / BUNDLE_KEYS, _lines(response.bundle_keys))
        _keep(folder, response, Renewal(server, server_name, response.renew_at_s))
    except OSError as error:
        raise ConfigurationError(f"identity: {folder} cannot be written: {error.strerror}") from error
    return Identity(response.device_id, folder)


async def renew(folder: Path, renewal: Renewal, *, use_proxy: bool | None = None) -> Identity:
    """Get another certificate with the present one, and keep it in its place. What the device trusts stays.

    Args:
        folder: where key and certificates are kept; what is there stays until the new ones are.
        renewal: where to ask.
        use_proxy: go through the proxy that the environment names; None: not to neighbours.

    Raises:
        ConfigurationError: the folder cannot be read or written, or holds no certificate with its key.
        UnauthenticatedError: the server does not take the certificate.
        UplinkError, RefusedError: it cannot be had.
    """
    present = load_credentials(folder / AUTHORITY, folder / CERTIFICATE, folder / KEY, renewal.server_name)
    own = load_pem_private_key(present.key or b"", None)
    if not isinstance(own, ec.EllipticCurvePrivateKey):
        raise ConfigurationError(
            f"identity: {folder / KEY} is of another kind than certificates are renewed for"
        )
    certificate = x509.load_pem_x509_certificate(present.certificate or b"").public_bytes(Encoding.DER)

    async def ask(stub: EnrolmentStub, nonce: bytes, request: bytes) -> pb.EnrolResponse:
        asked = pb.RenewRequest(
            nonce=nonce,
            certificate=certificate,
            certificate_request=request,
            signature=own.sign(renewal_message(nonce, request), ec.ECDSA(hashes.SHA256())),
        )
        given: pb.EnrolResponse = await stub.Renew(asked, timeout=CALL_TIMEOUT_S)
        return given

    try:
        key = _pending_key(folder)
        # No certificate is shown to the door: one that has ended would not be let through.
        door = Credentials(present.authority, server_name=renewal.server_name)
        response = await _call(renewal.server, door, use_proxy, key, ask)
        _keep(folder, response, replace(renewal, renew_at_s=response.renew_at_s))
    except OSError as error:
        raise ConfigurationError(f"identity: {folder} cannot be written: {error.strerror}") from error
    return Identity(response.device_id, folder)


_Ask: TypeAlias = "Callable[[EnrolmentStub, bytes, bytes], Awaitable[pb.EnrolResponse]]"


async def _call(
    server: str, door: Credentials, use_proxy: bool | None, key: ec.EllipticCurvePrivateKey, ask: _Ask
) -> pb.EnrolResponse:
    """Ask for a certificate of a key; what comes is one, of that key."""
    options = (*door.channel_options(), *proxy_options(server, use_proxy))
    async with grpc.aio.secure_channel(server, door.channel_credentials(), options=options) as channel:
        stub = EnrolmentStub(channel)  # type: ignore[no-untyped-call]
        try:
            async with asyncio.timeout(2 * CALL_TIMEOUT_S):
                challenge = heard(await stub.Challenge(pb.ChallengeRequest(), timeout=CALL_TIMEOUT_S), server)
                response = heard(await ask(stub, challenge.nonce, _request_for(key)), server)
        except grpc.aio.AioRpcError as error:
            found = error_of_call(error, server)
            # A person waits: they try again, or correct the address.
            raise (found.cause if isinstance(found, TryAgainError) else found) from error
        except TryAgainError as error:
            raise error.cause from error
        except TimeoutError as error:
            raise ServerUnreachableError(f"no answer from {server}") from error
    _check(response, key)
    return response


def _keep(folder: Path, response: pb.EnrolResponse, renewal: Renewal) -> None:
    renewal.write(folder)
    _write_private(folder / CERTIFICATE, response.certificate.encode())
    # After a power cut between these lines its key is the pending one, and is put in place later.
    mend_identity(folder)


def _lines(keys: Iterable[str]) -> bytes:
    """Public keys, a line each.

    Raises:
        DeviceAgentError: one is none.
    """
    try:
        return "".join(f"{BundleKey.from_text(key).text}\n" for key in keys).encode()
    except ValueError as error:
        raise DeviceAgentError(f"the server names keys for bundles, one of which is none: {error}") from error


def _pending_key(folder: Path) -> ec.EllipticCurvePrivateKey:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / PENDING_KEY
    if path.exists():
        try:
            kept = load_pem_private_key(path.read_bytes(), None)
        except ValueError:
            kept = None
        if isinstance(kept, ec.EllipticCurvePrivateKey):
            return kept
    key = ec.generate_private_key(ec.SECP256R1())
    _write_private(path, _pem(key))
    return key


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _request_for(key: ec.EllipticCurvePrivateKey) -> bytes:
    # The server names the device by its token, whatever stands here.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "device")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def _check(response: pb.EnrolResponse, key: ec.EllipticCurvePrivateKey) -> None:
    try:
        certificate = x509.load_pem_x509_certificate(response.certificate.encode())
    except ValueError as error:
        raise DeviceAgentError("the server sent something that is no certificate") from error
    if certificate.public_key() != key.public_key():
        raise DeviceAgentError("the server sent a certificate for another key than this device's")


def _write_private(path: Path, data: bytes) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
