"""Keys with which bundles are signed, offline, and signing with them."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from device_agent.bundle.bundle import load_bundle
from device_agent.bundle.signature import BundleKey, sign_bundle
from device_agent.errors import DeviceAgentError
from edge_server.access.authority import read_key, write_private
from edge_server.errors import ConfigurationError

PUBLIC_SUFFIX = ".pub"


def make_key(path: Path) -> BundleKey:
    """Make a key, write it where only its owner can read it, and its public half beside it.

    Raises:
        ConfigurationError: there is one already, or it cannot be written.
    """
    if path.exists():
        raise ConfigurationError(f"{path} is there already; it is not overwritten: name another file")
    key = Ed25519PrivateKey.generate()
    public = BundleKey.of(key)
    write_private(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    write_private(path.with_name(path.name + PUBLIC_SUFFIX), f"{public.text}\n".encode())
    return public


def read_signing_key(path: Path) -> Ed25519PrivateKey:
    """A key that :func:`make_key` wrote.

    Raises:
        ConfigurationError: it cannot be read, or is of another kind.
    """
    key = read_key(path)
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"{path} is no ed25519 key; make one with `edge-server certs bundle-key`")
    return key


def sign(folder: Path, key_path: Path) -> tuple[str, BundleKey]:
    """Sign the bundle in a folder, once all that it lists is verified.

    Returns:
        Its hash, and the public half of the key.

    Raises:
        ConfigurationError: the key cannot be used, or there is no sound bundle.
    """
    key = read_signing_key(key_path)
    try:
        bundle = load_bundle(folder)
        return bundle.hash, sign_bundle(folder, bundle.hash, key)
    except DeviceAgentError as error:
        raise ConfigurationError(str(error)) from error
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be written: {error.strerror or error}") from error
