"""Receives a bundle: into a file, within a size, and not slower than a network is.

What it is worth is for others to find out; here it only must not fill memory or disk, nor take for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import BinaryIO

from device_agent.errors import BundleError, ServerUnreachableError
from device_agent.uplink.status import TryAgainError, heard
from protos.tokenlink.v1 import tokenlink_pb2 as pb

STALLED_S = 30.0
LEAST_BYTES_PER_S = 1024
"""A server that sends less than this, over so long a time, has stalled, whatever trickles in."""


async def receive_bundle(
    chunks: AsyncIterator[pb.BundleChunk | None],
    file: BinaryIO,
    server: str,
    max_bytes: int,
    *,
    stalled_s: float = STALLED_S,
) -> None:
    """Write what comes into a file.

    Args:
        chunks: of a GetBundle call.
        file: from its present position on.
        server: its address, for messages.
        max_bytes: the most that is taken in.
        stalled_s: over which the least rate is looked at [s].

    Raises:
        BundleError: larger than that, or other bytes than were announced.
        TryAgainError: it stalled.
    """
    announced: int | None = None
    received = since = 0
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(stalled_s) as moving:
            async for chunk in chunks:
                chunk = heard(chunk, server)
                if announced is None:
                    announced = chunk.total_bytes
                if chunk.total_bytes != announced:
                    raise BundleError(f"{server} announces {announced} bytes, then {chunk.total_bytes}")
                received += len(chunk.data)
                if max(announced, received) > max_bytes:
                    raise BundleError(
                        f"{server} sends {max(announced, received)} bytes of bundle; at most {max_bytes} are "
                        "taken (bundle_max_bytes)"
                    )
                if received > announced:
                    break
                file.write(chunk.data)
                if received - since >= stalled_s * LEAST_BYTES_PER_S:
                    since = received
                    moving.reschedule(loop.time() + stalled_s)
    except TimeoutError as error:
        raise TryAgainError(ServerUnreachableError(f"{server} stopped sending its bundle")) from error
    if received != announced:
        raise BundleError(f"{server} announced {announced or 0} bytes of bundle, sent {received}")
