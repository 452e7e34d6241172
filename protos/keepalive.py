"""Keepalive of both ends, set together: pings that find a dead peer, and what a server takes for too many.

    device ── ping, after PING_AFTER_S without news ──▶ server     no answer within PING_TIMEOUT_S: it is gone
    device ◀── ping, likewise ───────────────────────── server

A peer that vanished without a word (half-open link) is noticed within PING_AFTER_S + PING_TIMEOUT_S, on both
sides, also while no question is in flight. A server ends a connection with GOAWAY ENHANCE_YOUR_CALM when
pings come faster than MIN_PING_INTERVAL_S; between that and PING_AFTER_S there is room for pings that a
network pushed together. Servers that were deployed before this module take a ping each 10 s.

Source: gRPC, doc/keepalive.md, and proposal A8.
"""

from __future__ import annotations

PING_AFTER_S = 12.0
"""Without news from the peer for so long, a ping is sent [s]."""
PING_TIMEOUT_S = 15.0
"""A peer that has not answered by then is gone [s]. Long enough for a 64 kbit/s link to empty a window."""
MIN_PING_INTERVAL_S = 5.0
"""A server takes pings that are further apart than this [s]."""


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


_BOTH = (
    ("grpc.keepalive_time_ms", _ms(PING_AFTER_S)),
    ("grpc.keepalive_timeout_ms", _ms(PING_TIMEOUT_S)),
    # gRPC also pings to measure the link. While such a ping is under way no keepalive ping is sent, and it
    # would be waited for over a minute: a link that dies in just that moment has to be noticed by that ping.
    ("grpc.http2.ping_timeout_ms", _ms(PING_TIMEOUT_S)),
    ("grpc.keepalive_permit_without_calls", 1),
    # A stream on which nothing is said for long would otherwise be pinged twice, and then hardly ever.
    ("grpc.http2.max_pings_without_data", 0),
)

DEVICE_OPTIONS: tuple[tuple[str, int], ...] = _BOTH
"""Channel arguments of a device's channel."""

SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    *_BOTH,
    ("grpc.http2.min_ping_interval_without_data_ms", _ms(MIN_PING_INTERVAL_S)),
)
"""Channel arguments of a server."""
