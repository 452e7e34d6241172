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
import os
import ssl
from dataclasses import dataclass
from pathlib import Path

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

from device_agent.errors import ConfigurationError, DeviceAgentError, ServerUnreachableError
from device_agent.uplink.credentials import AUTHORITY, CERTIFICATE, KEY, Credentials
from device_agent.uplink.proxy import proxy_options
from device_agent.uplink.status import TryAgainError, error_of_call
from protos.enrolment import EnrolToken, TokenError, make_proof
from protos.tokenlink.v1 import enrolment_pb2 as pb
from protos.tokenlink.v1.enrolment_pb2_grpc import EnrolmentStub

CALL_TIMEOUT_S = 15.0
_PENDING_KEY = "device.key.pending"


@dataclass(frozen=True)
class Identity:
    """What a device has after it enrolled."""

    device_id: str
    folder: Path


async def enrol(
    server: str,
    token_text: str,
    folder: Path,
    *,
    server_name: str | None = None,
    use_proxy: bool | None = None,
) -> Identity:
    """Get a certificate and keep it with its key.

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
    try:
        key = _pending_key(folder)
        request = _request_for(key)
        authority = ssl.DER_cert_to_PEM_cert(token.authority_der)
        credentials = Credentials(authority.encode(), server_name=server_name)
        options = (*credentials.channel_options(), *proxy_options(server, use_proxy))
        channel = grpc.aio.secure_channel(server, credentials.channel_credentials(), options=options)
        response = await _ask(server, token, request, channel)
        _check(response, key)
        _write_private(folder / AUTHORITY, authority.encode())
        _write_private(folder / KEY, _pem(key))
        _write_private(folder / CERTIFICATE, response.certificate.encode())
        # Only now: after a power cut between these lines, the same token gives the same certificate again.
        (folder / _PENDING_KEY).unlink()
    except OSError as error:
        raise ConfigurationError(f"identity: {folder} cannot be written: {error.strerror}") from error
    return Identity(response.device_id, folder)


async def _ask(server: str, token: EnrolToken, request: bytes, channel: grpc.aio.Channel) -> pb.EnrolResponse:
    async with channel:
        stub = EnrolmentStub(channel)  # type: ignore[no-untyped-call]
        try:
            async with asyncio.timeout(2 * CALL_TIMEOUT_S):
                challenge = await stub.Challenge(pb.ChallengeRequest(), timeout=CALL_TIMEOUT_S)
                response: pb.EnrolResponse = await stub.Enrol(
                    pb.EnrolRequest(
                        nonce=challenge.nonce,
                        token_id=token.token_id,
                        proof=make_proof(token, challenge.nonce, request),
                        certificate_request=request,
                    ),
                    timeout=CALL_TIMEOUT_S,
                )
        except grpc.aio.AioRpcError as error:
            found = error_of_call(error, server)
            # A person waits: they try again, or correct the address.
            raise (found.cause if isinstance(found, TryAgainError) else found) from error
        except TimeoutError as error:
            raise ServerUnreachableError(f"no answer from {server}") from error
    return response


def _pending_key(folder: Path) -> ec.EllipticCurvePrivateKey:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / _PENDING_KEY
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
