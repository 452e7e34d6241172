"""A device follows the server to another model: fetches its bundle, verifies it, runs it from then on.

    OpenSession ─▶ current_bundle_hash ≠ ours ─▶ GetBundle ─▶ verified, run once ─▶ installed ─▶ OpenSession

What cannot be fetched or trusted changes nothing, as long as the server still answers for what is here. Who
waits for an answer waits no longer for a bundle than for the answer; the bundle goes on coming meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
from pathlib import Path

from device_agent.bundle.acceptance import Acceptance
from device_agent.bundle.archive import install
from device_agent.bundle.bundle import Bundle, Precision
from device_agent.errors import BundleError, BundleMismatchError, DeadlineError, DeviceAgentError
from device_agent.stopping import Stop
from device_agent.uplink.session import Session
from device_agent.uplink.uplink import FETCH_WITHIN_S, Uplink

logger = logging.getLogger(__name__)


async def fetch(
    uplink: Uplink,
    folder: Path,
    bundle_hash: str = "",
    precision: Precision | None = None,
    *,
    model: str = "",
    acceptance: Acceptance | None = None,
    within_s: float = FETCH_WITHIN_S,
) -> Bundle:
    """Fetch a bundle from the server and install it in place of the old one; cancelled, the old one stays.

    Args:
        uplink: to the server.
        folder: where the bundle is installed.
        bundle_hash: which it has to be; empty: the server's current one.
        precision: what its encoders have to compute with.
        model: whose it has to be, of those that the server has beside one another; empty: its first.
        acceptance: what else it has to meet.
        within_s: for all of it [s].

    Raises:
        BundleError: it cannot be trusted, does not work, or the folder cannot be written.
        DeadlineError: it is not here in time.
        UplinkError, RefusedError: it cannot be had.
    """
    acceptance = acceptance or Acceptance()
    stop = Stop()
    try:
        folder = folder.resolve()
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
            archive = Path(scratch, "bundle.tar")
            async with asyncio.timeout(within_s):
                await uplink.fetch_bundle(
                    archive,
                    bundle_hash,
                    "" if bundle_hash else precision or "",
                    model=model,
                    max_bytes=acceptance.max_bytes,
                    within_s=within_s,
                )
                installing = asyncio.ensure_future(
                    asyncio.to_thread(
                        install,
                        archive,
                        folder,
                        expected_hash=bundle_hash or None,
                        expected_precision=precision,
                        acceptance=acceptance,
                        stop=stop,
                    )
                )
                try:
                    return await asyncio.shield(installing)
                finally:
                    # The thread works in the folder that is removed next.
                    stop()
                    await asyncio.wait([installing])
                    installing.exception()  # nobody asks for it any more where this was cancelled
    except TimeoutError as error:
        raise DeadlineError(f"no bundle from {uplink.server} within {within_s:g} s") from error
    except OSError as error:
        raise BundleError(f"{folder} cannot be written: {error.strerror or error}") from error


class Updater:
    """Opens sessions, with another bundle where the server would rather have that.

    Args:
        uplink: to the server.
        folder: where the bundle is installed.
        active: whether bundles are fetched at all.
        acceptance: what they have to meet.
        within_s: how long one may take [s].
    """

    def __init__(
        self,
        uplink: Uplink,
        folder: Path,
        *,
        active: bool,
        acceptance: Acceptance | None = None,
        within_s: float = FETCH_WITHIN_S,
    ) -> None:
        self._uplink = uplink
        self._folder = folder
        self._active = active
        self._acceptance = acceptance or Acceptance()
        self._within_s = within_s
        self._turn = asyncio.Lock()
        self._unusable = ""
        self._fetching: tuple[str, asyncio.Task[Bundle]] | None = None

    async def open(
        self, snr_db: float, bundle: Bundle, *, wait_s: float | None = None
    ) -> tuple[Session, Bundle]:
        """Open the session, or renew it.

        Args:
            snr_db: what the device measures [dB].
            bundle: what it runs.
            wait_s: how long to wait for another bundle, where the server answers for this one too [s]; None:
                until it is here.

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
                bundle = self._adopted(await self._fetched("", bundle))
                return await self._uplink.open(snr_db), bundle
            wanted = session.current_bundle_hash
            if wanted in ("", self._uplink.bundle_hash, self._unusable):
                return session, bundle
            try:
                async with asyncio.timeout(wait_s):
                    fresh = await self._fetched(wanted, bundle)
            except TimeoutError:
                return session, bundle  # it is looked at again with the next question
            except DeviceAgentError as error:
                # Tried once: a bundle that is broken there will not mend while every question waits for it.
                self._unusable = wanted
                logger.warning("stays with its bundle, the server's cannot be had: %s", error)
                return session, bundle
            bundle = self._adopted(fresh)
            return await self._uplink.open(snr_db), bundle

    async def close(self) -> None:
        """Give up what is being fetched."""
        if self._fetching is not None:
            _, task = self._fetching
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, DeviceAgentError):
                await task

    async def _fetched(self, wanted: str, bundle: Bundle) -> Bundle:
        """The bundle that is wanted. Whoever stops waiting for it leaves it coming."""
        if self._fetching is None or self._fetching[0] != wanted:
            await self.close()
            self._fetching = wanted, asyncio.create_task(self._fetch(wanted, bundle))
        _, task = self._fetching
        try:
            return await asyncio.shield(task)
        finally:
            if task.done():
                self._fetching = None

    async def _fetch(self, wanted: str, bundle: Bundle) -> Bundle:
        return await fetch(
            self._uplink,
            self._folder,
            wanted,
            bundle.manifest.precision,
            acceptance=self._acceptance,
            within_s=self._within_s,
        )

    def _adopted(self, fresh: Bundle) -> Bundle:
        self._uplink.adopt(fresh.hash)
        logger.info("runs bundle %s from now on", fresh.hash)
        return fresh
