"""Another certificate for a device that has one: it shows the old one, and that it has its key.

    old certificate, by its fingerprint ─▶ given here? ─▶ signed with its key, for nonce and request?
      ─▶ not revoked, half of its life is over, its end no longer ago than policy says ─▶ another one

The old one ends soon after, not at once: what is on its way with it arrives. What was given is kept under the
old one's number, so that an answer that was lost can be had again, by the same new key alone.
"""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edge_server.access.authority import (
    MAX_REQUEST_BYTES,
    Authority,
    Signed,
    read_request,
    serial_of,
)
from edge_server.errors import InvalidQuestionError, UnauthenticatedError
from protos.enrolment import renewal_message

OVERLAP_S = 900.0
"""So long an old certificate is good beside the new one, at most [s]."""
_KEPT = "renewal-of-"
_DAY_S = 86_400.0


@dataclass(frozen=True)
class Policy:
    """Who is given another certificate.

    Attributes:
        days: that it is good for.
        expired_days: the old one may have ended so long ago.
    """

    days: float
    expired_days: float


@dataclass(frozen=True)
class Proof:
    """What a device shows.

    Attributes:
        nonce: verified.
        certificate_der: the old certificate.
        request_der: for the new one.
        signature: by the old one's key.
    """

    nonce: bytes
    certificate_der: bytes
    request_der: bytes
    signature: bytes


def renew_at_s(issued_s: float, expires_s: float) -> float:
    """From when on a certificate is renewed: half of its life [seconds since the Unix epoch]."""
    return issued_s + (expires_s - issued_s) / 2.0


def renew(
    database: sqlite3.Connection, authority: Authority, policy: Policy, proof: Proof, now_s: float
) -> tuple[str, str, float]:
    """Give another certificate, within a transaction.

    Returns:
        The device's name, the certificate (PEM), and when that is to be renewed.

    Raises:
        InvalidQuestionError: what is shown is no certificate or no request, or it is too early.
        UnauthenticatedError: it was not given here, was revoked or replaced, ended too long ago, or the
            signature is not its key's.
    """
    old = _read(proof.certificate_der)
    row = database.execute("SELECT * FROM certificates WHERE serial = ?", (serial_of(old),)).fetchone()
    if row is None or row["fingerprint"] != old.fingerprint(hashes.SHA256()).hex():
        raise UnauthenticatedError(
            "this certificate is not among those that were given here; enrol the device again",
            reason="unknown_certificate",
        )
    _check_signature(old, proof)
    public_key = read_request(proof.request_der)
    digest = hashlib.sha256(public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    device_id, kept_as = row["device_id"], _KEPT + row["serial"]
    kept = database.execute("SELECT * FROM enrol_tokens WHERE token_id = ?", (kept_as,)).fetchone()
    if row["revoked_s"] is not None:
        raise UnauthenticatedError("this certificate was revoked; enrol the device again", reason="revoked")
    if kept is not None:
        if kept["key_digest"] != digest:
            raise UnauthenticatedError(
                "this certificate was replaced by another; enrol the device again", reason="replaced"
            )
        return device_id, kept["certificate"], renew_at_s(kept["used_s"], kept["expires_s"])
    from_s = renew_at_s(row["issued_s"], row["expires_s"])
    if now_s < from_s:
        raise InvalidQuestionError(
            "certificate",
            f"is renewed from {datetime.fromtimestamp(from_s, UTC):%Y-%m-%d} on, by this server's clock",
        )
    if now_s > row["expires_s"] + policy.expired_days * _DAY_S:
        raise UnauthenticatedError(
            f"this certificate ended more than {policy.expired_days:g} days ago, by the server's clock; "
            "enrol the device again",
            reason="expired",
        )
    signed = authority.sign_key(public_key, device_id, datetime.fromtimestamp(now_s, UTC), policy.days)
    _replace(database, row["serial"], device_id, signed, now_s)
    database.execute(
        "INSERT INTO enrol_tokens (token_id, device_id, stored_key, expires_s, used_s, key_digest, "
        "certificate) VALUES (?, ?, x'', ?, ?, ?, ?)",
        (kept_as, device_id, signed.expires_s, now_s, digest, signed.pem),
    )
    return device_id, signed.pem, renew_at_s(now_s, signed.expires_s)


def _replace(database: sqlite3.Connection, serial: str, device_id: str, signed: Signed, now_s: float) -> None:
    database.execute(
        "UPDATE certificates SET expires_s = min(expires_s, ?) WHERE serial = ?", (now_s + OVERLAP_S, serial)
    )
    database.execute(
        "INSERT INTO certificates (serial, device_id, fingerprint, issued_s, expires_s) "
        "VALUES (?, ?, ?, ?, ?)",
        (signed.serial, device_id, signed.fingerprint, now_s, signed.expires_s),
    )


def _read(certificate_der: bytes) -> x509.Certificate:
    field = "certificate"
    if len(certificate_der) > MAX_REQUEST_BYTES:
        raise InvalidQuestionError(
            field, f"takes {len(certificate_der)} bytes; at most {MAX_REQUEST_BYTES} are allowed"
        )
    try:
        return x509.load_der_x509_certificate(certificate_der)
    except ValueError as error:
        raise InvalidQuestionError(field, "is no certificate in DER") from error


def _check_signature(old: x509.Certificate, proof: Proof) -> None:
    message = renewal_message(proof.nonce, proof.request_der)
    try:
        key = old.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise InvalidSignature
        key.verify(proof.signature, message, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, UnsupportedAlgorithm, ValueError) as error:
        raise UnauthenticatedError(
            "the signature is not by the key of this certificate", reason="wrong_proof"
        ) from error
