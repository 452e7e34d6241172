"""A device follows the server to another model: fetches its bundle, verifies it, runs it from then on.

    OpenSession ─▶ current_bundle_hash ≠ ours ─▶ GetBundle ─▶ verified ─▶ installed ─▶ OpenSession again

What cannot be fetched or trusted changes nothing, as long as the server still answers for what is here.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from device_agent.bundle.archive import install
from device_agent.bundle.bundle import Bundle
from device_agent.errors import BundleError, BundleMismatchError, DeviceAgentError
from device_agent.uplink.session import Session
from device_agent.uplink.uplink import Uplink

logger = logging.getLogger(__name__)


class Updater:
    """Opens sessions, with another bundle where the server would rather have that.

    Args:
        uplink: to the server.
        folder: where the bundle is installed.
        active: whether bundles are fetched at all.
    """

    def __init__(self, uplink: Uplink, folder: Path, *, active: bool) -> None:
        self._uplink = uplink
        self._folder = folder
        self._active = active
        self._turn = asyncio.Lock()
        self._unusable = ""

    async def open(self, snr_db: float, bundle: Bundle) -> tuple[Session, Bundle]:
        """Open the session, or renew it.

        Args:
            snr_db: what the device measures [dB].
            bundle: what it runs.

        Returns:
            The session, and the bundle that is to be run from now on.

        Raises:
            BundleMismatchError: the server answers for another bundle, and none is fetched.
            BundleError: it does, and its bundle cannot be trusted.
            UplinkError, RefusedError: the session cannot be had.
        """
        if not self._active:
            return await self._uplink.open(snr_db), bundle
        async with self._turn:
            try:
                session = await self._uplink.open(snr_db)
            except BundleMismatchError:
                bundle = await self._fetch("", bundle)
                return await self._uplink.open(snr_db), bundle
            wanted = session.current_bundle_hash
            if wanted in ("", self._uplink.bundle_hash, self._unusable):
                return session, bundle
            try:
                bundle = await self._fetch(wanted, bundle)
            except DeviceAgentError as error:
                # Tried once: a bundle that is broken there will not mend while every question waits for it.
                self._unusable = wanted
                logger.warning("stays with its bundle, the server's cannot be had: %s", error)
                return session, bundle
            return await self._uplink.open(snr_db), bundle

    async def _fetch(self, wanted: str, bundle: Bundle) -> Bundle:
        precision = bundle.manifest.precision
        archive = await self._uplink.fetch_bundle(wanted, "" if wanted else precision)
        try:
            fresh = await asyncio.to_thread(
                install,
                archive,
                self._folder,
                expected_hash=wanted or None,
                expected_precision=precision,
            )
        except OSError as error:
            raise BundleError(f"{self._folder} cannot be written: {error.strerror or error}") from error
        self._uplink.adopt(fresh.hash)
        logger.info("runs bundle %s from now on", fresh.hash)
        return fresh
