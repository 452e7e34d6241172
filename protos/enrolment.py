"""The one-time enrolment token, and how a device proves that it has one without sending it.

The token is one line of text: a public id, 32 random bytes, and the authority's certificate, so that the
device can verify the server before it says anything. The proof is SCRAM's (RFC 5802, section 3) without its
iterations, which slow down guessing of passwords; a random secret cannot be guessed:

    client_key = HMAC(secret, "TokenLink enrolment client key")
    stored_key = SHA-256(client_key)                                   all that the server keeps
    proof      = client_key XOR HMAC(stored_key, nonce, token id, SHA-256(request))

Who reads what the server keeps cannot make a proof; who records one cannot use it for another nonce or key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass, field

PREFIX = "tokenlink-enrol-1."
ID_BYTES = 8
SECRET_BYTES = 32
PROOF_BYTES = 32

_MAX_TOKEN_CHARS = 16_384


class TokenError(ValueError):
    """A text that is no enrolment token; says why, without repeating it."""


@dataclass(frozen=True)
class EnrolToken:
    """A one-time token.

    Attributes:
        token_id: its public part, hexadecimal.
        secret: its secret part, 32 random bytes.
        authority_der: certificate of the authority that signed the server's.
    """

    token_id: str
    secret: bytes = field(repr=False)
    authority_der: bytes = field(repr=False)

    def text(self) -> str:
        """The token as one line."""
        packed = bytes.fromhex(self.token_id) + self.secret + self.authority_der
        return PREFIX + base64.urlsafe_b64encode(packed).rstrip(b"=").decode()

    @classmethod
    def from_text(cls, text: str) -> EnrolToken:
        """A token from its line.

        Raises:
            TokenError: it is none.
        """
        line = text.strip()
        if not line.startswith(PREFIX):
            raise TokenError(f"does not start with {PREFIX!r}")
        if len(line) > _MAX_TOKEN_CHARS:
            raise TokenError(f"has {len(line)} characters; at most {_MAX_TOKEN_CHARS} are allowed")
        body = line.removeprefix(PREFIX)
        try:
            packed = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise TokenError("is cut or was altered") from error
        if len(packed) <= ID_BYTES + SECRET_BYTES:
            raise TokenError("is cut")
        secret_end = ID_BYTES + SECRET_BYTES
        return cls(packed[:ID_BYTES].hex(), packed[ID_BYTES:secret_end], packed[secret_end:])


def stored_key(secret: bytes) -> bytes:
    """What a server keeps of a token's secret [32 bytes]."""
    return hashlib.sha256(_client_key(secret)).digest()


def make_proof(token: EnrolToken, nonce: bytes, certificate_request: bytes) -> bytes:
    """Show that the token is known, for this nonce and request [32 bytes]."""
    mask = _mask(stored_key(token.secret), nonce, token.token_id, certificate_request)
    return _xor(_client_key(token.secret), mask)


def proof_is_good(kept: bytes, proof: bytes, nonce: bytes, token_id: str, certificate_request: bytes) -> bool:
    """Whether a proof was made with the secret behind a stored key; takes equally long either way."""
    if len(proof) != PROOF_BYTES:
        return False
    client_key = _xor(proof, _mask(kept, nonce, token_id, certificate_request))
    return hmac.compare_digest(hashlib.sha256(client_key).digest(), kept)


def renewal_message(nonce: bytes, certificate_request: bytes) -> bytes:
    """What a device signs with its present key to be given another certificate."""
    parts = (nonce, certificate_request)
    return b"TokenLink renewal 1" + b"".join(hashlib.sha256(part).digest() for part in parts)


def _client_key(secret: bytes) -> bytes:
    return hmac.digest(secret, b"TokenLink enrolment client key", "sha256")


def _mask(kept: bytes, nonce: bytes, token_id: str, certificate_request: bytes) -> bytes:
    # Each part is hashed to a fixed length: no two messages are the same bytes.
    parts = (nonce, token_id.encode(), certificate_request)
    return hmac.digest(kept, b"".join(hashlib.sha256(part).digest() for part in parts), "sha256")


def _xor(first: bytes, second: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(first, second, strict=True))
