"""Who a certificate says its holder is."""

from __future__ import annotations

import functools

from cryptography import x509

from edge_server.access.authority import common_name_of, serial_of
from edge_server.cell import Peer


@functools.lru_cache(maxsize=8192)
def peer_of_certificate(pem: bytes) -> Peer:
    """The device that holds a certificate, which TLS has verified; read once per certificate.

    Raises:
        ValueError: the bytes are no certificate.
    """
    certificate = x509.load_pem_x509_certificate(pem)
    return Peer(common_name_of(certificate), serial_of(certificate))
