"""Who vouches for a bundle: ed25519 signatures of its hash, in a file beside its manifest.

    files ─▶ checksums in manifest.json ─▶ bundle_hash ─▶ signatures.json: public key ─▶ signature

The hash covers every listed file, so whoever signs it signs them all; what is not listed is never installed.
The private key stays offline, with whoever makes models; devices pin public ones. A bundle may carry several
signatures and a device several pins: a key is replaced by signing with both until every device knows the new
one.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from device_agent.errors import BundleError, ConfigurationError
from device_agent.written import written_text

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SIGNATURES = "signatures.json"
MAX_SIGNATURES_BYTES = 64 * 1024
_ALGORITHM = "ed25519:"
_KEY_BYTES = 32
_PURPOSE = b"tokenlink device bundle, format 1\n"
"""Signed before the hash, so that no signature made for anything else is one of a bundle."""


@dataclass(frozen=True)
class BundleKey:
    """A public key of who signs bundles.

    Attributes:
        raw: its 32 bytes.
    """

    raw: bytes

    @classmethod
    def from_text(cls, text: str) -> BundleKey:
        """From what :attr:`text` gave.

        Raises:
            ValueError: it is no such text.
        """
        name, _, value = text.strip().partition(":")
        try:
            raw = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if f"{name}:" != _ALGORITHM or len(raw) != _KEY_BYTES:
            raise ValueError(f"{text.strip()[:100]!r} is no public key; one looks like {_ALGORITHM}BASE64")
        return cls(raw)

    @classmethod
    def of(cls, key: Ed25519PrivateKey) -> BundleKey:
        """The public half of a private key."""
        return cls(key.public_key().public_bytes_raw())

    @property
    def text(self) -> str:
        """On one line: ``ed25519:`` and the key in base64."""
        return _ALGORITHM + base64.b64encode(self.raw).decode("ascii")


def read_keys(path: Path) -> tuple[BundleKey, ...]:
    """Public keys from a file, one a line; empty lines and those that begin with # are left out.

    Raises:
        ConfigurationError: it cannot be read, names no key, or a line is none.
    """
    try:
        lines = written_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"bundle_keys: {path} cannot be read: {error}") from error
    keys = []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                keys.append(BundleKey.from_text(line))
            except ValueError as error:
                raise ConfigurationError(f"bundle_keys: {path}:{number}: {error}") from error
    if not keys:
        raise ConfigurationError(f"bundle_keys: {path} holds no key; to take any bundle, leave the file away")
    return tuple(keys)


def sign_bundle(folder: Path, bundle_hash: str, key: Ed25519PrivateKey) -> BundleKey:
    """Add a key's signature to a bundle in a folder; those of other keys stay.

    Args:
        folder: of the bundle.
        bundle_hash: its hash, verified.
        key: signs.

    Raises:
        BundleError: there is a file of signatures that cannot be read.
    """
    public = BundleKey.of(key)
    signature = base64.b64encode(key.sign(_signed(bundle_hash))).decode("ascii")
    signatures = _read(folder) | {public.text: signature}
    text = json.dumps({"format": 1, "signatures": signatures}, indent=2, sort_keys=True)
    (folder / SIGNATURES).write_text(text + "\n", encoding="utf-8")
    return public


def check_signed(folder: Path, bundle_hash: str, keys: Sequence[BundleKey]) -> None:
    """Check that one of the keys signed a bundle.

    Args:
        folder: of the bundle.
        bundle_hash: its hash, verified.
        keys: that are trusted; none: any bundle will do.

    Raises:
        BundleError: none of them did.
    """
    if not keys:
        return
    from cryptography.exceptions import InvalidSignature  # only devices with a pin pay for it
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    signatures = _read(folder)
    short = bundle_hash[:12]
    if not signatures:
        raise BundleError(
            f"bundle {short} is not signed; this device takes only what one of its {len(keys)} pinned keys "
            "signed (bundle_keys)"
        )
    ours = [key for key in keys if key.text in signatures]
    for key in ours:
        try:
            given = base64.b64decode(signatures[key.text], validate=True)
            Ed25519PublicKey.from_public_bytes(key.raw).verify(given, _signed(bundle_hash))
        except (InvalidSignature, ValueError):
            continue
        return
    if ours:
        raise BundleError(f"the signature by {ours[0].text} is not one of bundle {short}: it was altered")
    others = ", ".join(sorted(signatures)[:3])
    raise BundleError(
        f"bundle {short} is signed by {others}, which this device does not trust (bundle_keys)",
        advice="pin that key too, if it is your model's maker's",
    )


def _signed(bundle_hash: str) -> bytes:
    return _PURPOSE + bundle_hash.encode("ascii")


def _read(folder: Path) -> dict[str, str]:
    """Signatures by the text of their keys; empty where there is no file."""
    path = folder / SIGNATURES
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > MAX_SIGNATURES_BYTES:
            raise ValueError(f"has more than {MAX_SIGNATURES_BYTES} bytes")
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or found.get("format") != 1:
            raise ValueError("is of no known format")
        signatures = found["signatures"]
        if not isinstance(signatures, dict) or not all(isinstance(each, str) for each in signatures.values()):
            raise ValueError("holds no signatures")
        return {BundleKey.from_text(name).text: value for name, value in signatures.items()}
    except (ValueError, KeyError, RecursionError) as error:
        raise BundleError(f"bundle {folder}: {SIGNATURES} cannot be read: {error}") from error
