"""Sends bundles: so many at once, each read by its device in time, and what waits in memory counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from edge_server.cell import SharedBound
from edge_server.errors import AdmissionRefusedError
from edge_server.frontdoor.ports import BundleArchive
from protos.tokenlink.v1 import tokenlink_pb2 as pb

CHUNK_BYTES = 64 * 1024
_BUFFERED_BYTES = 1024 * 1024
"""What gRPC takes from us for a client that reads nothing, about."""


class Downloads:
    """Bundles on their way to devices.

    Args:
        places: how many may be.
        held: bytes that are in memory for somebody.
        within_s: time in which a device has to take a part of one [s].
        refused: told, in one word, of downloads that were refused or given up.
    """

    def __init__(
        self, places: SharedBound, held: SharedBound, within_s: float, refused: Callable[[str], None]
    ) -> None:
        self._places = places
        self._held = held
        self._within_s = within_s
        self._refused = refused

    async def send(self, bundle: BundleArchive, holder: str, context: Any) -> None:
        """Send an archive, in chunks.

        Args:
            bundle: which.
            holder: for whom.
            context: of the call.

        Raises:
            AdmissionRefusedError: too many bundles are on their way, or too much is in memory.
        """
        try:
            place = self._places.hold(holder, 1)
            with place, self._held.hold(holder, _BUFFERED_BYTES):
                await self._send(bundle, context)
        except AdmissionRefusedError as error:
            self._refused(error.reason)
            raise

    async def _send(self, bundle: BundleArchive, context: Any) -> None:
        total_bytes = (await asyncio.to_thread(bundle.path.stat)).st_size
        file = await asyncio.to_thread(bundle.path.open, "rb")
        with file:
            while data := await asyncio.to_thread(file.read, CHUNK_BYTES):
                chunk = pb.BundleChunk(bundle_hash=bundle.bundle_hash, total_bytes=total_bytes, data=data)
                try:
                    async with asyncio.timeout(self._within_s):
                        await context.write(chunk)
                except TimeoutError:
                    self._refused("slow_reader")
                    await context.abort(
                        grpc.StatusCode.DEADLINE_EXCEEDED,
                        f"{len(data)} bytes of the bundle were not taken within {self._within_s:g} s",
                    )
