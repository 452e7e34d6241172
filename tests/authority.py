"""An authority, a server's certificate, an access file, and devices that enrolled without a network."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from device_agent.uplink.credentials import Credentials
from edge_server.access import devices, store
from edge_server.access.authority import Authority, Signed, key_pem, make_authority


@dataclass(frozen=True)
class Device:
    """A device with key and certificate."""

    name: str
    key: bytes
    signed: Signed
    authority: bytes

    def credentials(self) -> Credentials:
        return Credentials(self.authority, self.signed.pem.encode(), self.key, self.name)


@dataclass(frozen=True)
class Pki:
    """Everything in one folder."""

    folder: Path
    authority: Authority

    @property
    def access(self) -> Path:
        return self.folder / "access.sqlite"

    @property
    def root(self) -> bytes:
        return self.authority.pem.encode()

    def settings(self, *, enrol: bool = False) -> dict[str, object]:
        """Of a server that asks for certificates and keys."""
        settings: dict[str, object] = {
            "tls_cert": self.folder / "server.pem",
            "tls_key": self.folder / "server.key",
            "tls_ca": self.folder / "ca.pem",
            "access": self.access,
        }
        return settings | ({"enrol_port": 0, "ca_key": self.folder / "ca.key"} if enrol else {})

    def device(
        self, name: str, *, days: float = 10.0, issued_s: float | None = None, noted: bool = True
    ) -> Device:
        """A device with a certificate; ``noted``: it stands in the access file."""
        issued_s = time.time() if issued_s is None else issued_s
        key = ec.generate_private_key(ec.SECP256R1())
        signed = self.authority.sign_key(key.public_key(), name, datetime.fromtimestamp(issued_s, UTC), days)
        if noted:
            with store.transaction(self.access) as database:
                devices.record(database, name, signed, issued_s)
        return Device(name, key_pem(key), signed, self.root)


def make_pki(folder: Path) -> Pki:
    """An authority, a certificate for a server on this machine, an access file."""
    authority = make_authority(folder, "test authority")
    authority.make_server(folder, ["localhost", "127.0.0.1"], None)
    store.create(folder / "access.sqlite")
    return Pki(folder, authority)
