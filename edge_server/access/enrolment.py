"""Enrolment: one-time tokens are made here, and turned into certificates.

A nonce is random bytes, the age of this process and a code over both that only this process can make: nothing
is kept for a nonce that is never used, so nobody can fill a table by asking for many.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import sqlite3
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device_agent.lasting import LastingClock
from edge_server.access.authority import Authority, check_device_id, read_pem, read_request
from edge_server.access.devices import record
from edge_server.access.renewal import Policy, Proof, renew, renew_at_s
from edge_server.access.store import transaction
from edge_server.errors import InvalidQuestionError, UnauthenticatedError
from protos.enrolment import ID_BYTES, SECRET_BYTES, EnrolToken, proof_is_good, stored_key

logger = logging.getLogger(__name__)

NONCE_VALID_S = 120.0
MAX_FAILURES = 5
"""Wrong proofs after which a token is dead."""

_RANDOM_BYTES = 16
_CODE_BYTES = 32
_REFUSAL = (
    "the enrolment token is unknown, used, expired or does not fit; have a new one made with "
    "`edge-server enrol-token`"
)


@dataclass(frozen=True)
class Enrolled:
    """What a device gets."""

    device_id: str
    certificate_pem: str
    authority_pem: str
    renew_at_s: float
    bundle_keys: tuple[str, ...] = ()


def make_token(
    path: Path,
    device_id: str,
    authority: x509.Certificate,
    clock: LastingClock,
    valid_s: float,
    *,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> EnrolToken:
    """Make a one-time token for a device; earlier ones that were not used are void.

    Args:
        path: the access file.
        device_id: whom it is for.
        authority: that signed the server's certificate.
        clock: begins now; no setting of the wall clock makes the token's time longer or shorter.
        valid_s: how long it can be used [s].
        random_bytes: of that many; from the system.

    Raises:
        ConfigurationError: the name is not usable, or there is no access file.
    """
    check_device_id(device_id)
    token = EnrolToken(
        random_bytes(ID_BYTES).hex(), random_bytes(SECRET_BYTES), authority.public_bytes(Encoding.DER)
    )
    with transaction(path) as database:
        void = [
            (row["token_id"],)
            for row in database.execute("SELECT * FROM enrol_tokens")
            if _has_ended(row, clock) or (row["device_id"] == device_id and row["used_s"] is None)
        ]
        database.executemany("DELETE FROM enrol_tokens WHERE token_id = ?", void)
        database.execute(
            "INSERT INTO enrol_tokens (token_id, device_id, stored_key, expires_s, anchor) "
            "VALUES (?, ?, ?, ?, ?)",
            (token.token_id, device_id, stored_key(token.secret), clock() + valid_s, clock.anchor()),
        )
    return token


class Enrolment:
    """Turns a token and a certificate request into a certificate. Blocks on the disk: not for an event loop.

    Args:
        path: the access file.
        authority: signs.
        policy: on what terms certificates are given.
        bundle_keys: public keys of those whose bundles devices are to take, given at enrolment.
        wall_clock: seconds since the Unix epoch; certificates bear its dates.
        lasting_clock: by which tokens end, for every call a new one.
        clock: monotonic seconds.
        random_bytes: of that many; from the system.
    """

    def __init__(
        self,
        path: Path,
        authority: Authority,
        *,
        policy: Policy,
        bundle_keys: tuple[str, ...] = (),
        wall_clock: Callable[[], float] = time.time,
        lasting_clock: Callable[[], LastingClock] = LastingClock,
        clock: Callable[[], float] = time.monotonic,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._path = path
        self._authority = authority
        self._policy = policy
        self._bundle_keys = bundle_keys
        self._wall_clock = wall_clock
        self._lasting_clock = lasting_clock
        self._clock = clock
        self._random_bytes = random_bytes
        self._nonce_key = random_bytes(_CODE_BYTES)

    def challenge(self) -> bytes:
        """A nonce, good for :data:`NONCE_VALID_S`."""
        body = self._random_bytes(_RANDOM_BYTES) + struct.pack(">d", self._clock())
        return body + hmac.digest(self._nonce_key, body, "sha256")

    def enrol(self, nonce: bytes, token_id: str, proof: bytes, request_der: bytes) -> Enrolled:
        """A certificate for whoever shows a good token. No time of the device counts.

        Raises:
            InvalidQuestionError: the nonce is not one of ours or too old, or the request is none.
            UnauthenticatedError: the token is unknown, used for something else, expired, or the proof wrong.
        """
        self._check_nonce(nonce)
        now_s = self._wall_clock()
        with transaction(self._path) as database:
            row = database.execute("SELECT * FROM enrol_tokens WHERE token_id = ?", (token_id,)).fetchone()
            # Computed in any case: how long it takes does not tell which ids exist.
            kept = row["stored_key"] if row is not None else bytes(32)
            good = proof_is_good(kept, proof, nonce, token_id, request_der)
            reason = _reason(row, good=good, clock=self._lasting_clock())
            if reason == "wrong_proof":
                database.execute(
                    "UPDATE enrol_tokens SET failures = failures + 1 WHERE token_id = ?", (token_id,)
                )
            given = self._give(database, row, request_der, now_s) if not reason else None
        # Raised only now: what was counted has to be committed.
        if given is None:
            raise UnauthenticatedError(_REFUSAL, reason=reason or "used_token")
        return given

    def _give(
        self, database: sqlite3.Connection, row: sqlite3.Row, request_der: bytes, now_s: float
    ) -> Enrolled | None:
        public_key = read_request(request_der)
        digest = hashlib.sha256(
            public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        ).digest()
        device_id = row["device_id"]
        if row["used_s"] is not None:
            # The answer was lost on its way: the same key gets the same certificate, another none.
            again = row["key_digest"] == digest
            if not again:
                return None
            ends_s = read_pem(row["certificate"]).not_valid_after_utc.timestamp()
            return self._enrolled(device_id, row["certificate"], renew_at_s(row["used_s"], ends_s))
        signed = self._authority.sign_key(
            public_key, device_id, datetime.fromtimestamp(now_s, UTC), self._policy.days
        )
        record(database, device_id, signed, now_s)
        database.execute(
            "UPDATE enrol_tokens SET used_s = ?, key_digest = ?, certificate = ? WHERE token_id = ?",
            (now_s, digest, signed.pem, row["token_id"]),
        )
        logger.info("enrolled", extra={"device_id": device_id, "serial": signed.serial})
        return self._enrolled(device_id, signed.pem, renew_at_s(now_s, signed.expires_s))

    def renew(self, nonce: bytes, certificate_der: bytes, request_der: bytes, signature: bytes) -> Enrolled:
        """Another certificate for a device that shows its present one; see :mod:`edge_server.access.renewal`.

        Raises:
            InvalidQuestionError: as there; or as :meth:`enrol`, of the nonce.
            UnauthenticatedError: as there.
        """
        self._check_nonce(nonce)
        proof = Proof(nonce, certificate_der, request_der, signature)
        with transaction(self._path) as database:
            device_id, pem, at_s = renew(database, self._authority, self._policy, proof, self._wall_clock())
        logger.info("renewed", extra={"device_id": device_id})
        return Enrolled(device_id, pem, self._authority.pem, at_s)

    def _enrolled(self, device_id: str, certificate_pem: str, at_s: float) -> Enrolled:
        return Enrolled(device_id, certificate_pem, self._authority.pem, at_s, self._bundle_keys)

    def _check_nonce(self, nonce: bytes) -> None:
        body, code = nonce[:-_CODE_BYTES], nonce[-_CODE_BYTES:]
        ours = hmac.compare_digest(hmac.digest(self._nonce_key, body, "sha256"), code)
        if not ours or len(body) != _RANDOM_BYTES + 8:
            raise InvalidQuestionError("nonce", "was not given by this server; call Challenge first")
        if self._clock() - struct.unpack(">d", body[_RANDOM_BYTES:])[0] > NONCE_VALID_S:
            raise InvalidQuestionError("nonce", "is too old; call Challenge again")


def _reason(row: sqlite3.Row | None, *, good: bool, clock: LastingClock) -> str:
    """Why a token is not taken; empty where it is."""
    if row is None:
        return "unknown_token"
    if row["failures"] >= MAX_FAILURES:
        return "dead_token"
    if not good:
        return "wrong_proof"
    return "expired_token" if _has_ended(row, clock) else ""


def _has_ended(row: sqlite3.Row, clock: LastingClock) -> bool:
    """Whether a token's time is over; one of a release that kept no anchor goes by the wall clock."""
    now_s = clock.after(row["anchor"] or b"")
    return bool(row["expires_s"] <= (clock() if now_s is None else now_s))
