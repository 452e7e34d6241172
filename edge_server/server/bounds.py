"""The bounds that everybody shares, from the settings; see :mod:`edge_server.cell.shared_bound`."""

from __future__ import annotations

from dataclasses import dataclass

from edge_server.cell import SharedBound, share_of
from edge_server.server.config import ServerConfig


@dataclass(frozen=True)
class Bounds:
    """What is held for others, by kind.

    Attributes:
        held_bytes: questions and answers that are in memory on their way, at both doors.
        uploads: bytes of media that are in files on their way, at the REST door.
        connections: to the REST door, by address; WebSockets too.
        calls: over gRPC, by certificate, or by address where there is none.
        downloads: of bundles.
    """

    held_bytes: SharedBound
    uploads: SharedBound
    connections: SharedBound
    calls: SharedBound
    downloads: SharedBound


def bounds_of(config: ServerConfig) -> Bounds:
    """Made anew, with nothing held."""

    shared = config.shared

    def bound(what: str, in_all: int, reason: str, part: float = shared.share_of_one) -> SharedBound:
        return SharedBound(what, in_all=in_all, of_one=share_of(in_all, part), reason=reason)

    # All that come through a proxy come from its address.
    of_one_address = 1.0 if config.rest.behind_proxy else shared.share_of_one
    return Bounds(
        held_bytes=bound("bytes", shared.max_held_bytes, "held_bytes"),
        uploads=bound("bytes of media", shared.max_upload_bytes, "uploads"),
        connections=bound("connections", shared.max_connections, "connections", of_one_address),
        calls=bound("calls", config.grpc.max_calls, "calls"),
        downloads=bound("bundles on their way", shared.max_downloads, "downloads"),
    )
