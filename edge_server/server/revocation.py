"""Who may come in no more loses at once what they hold: sessions, calls, an open page.

Every frame and every request is checked when it comes; this is for what is held without sending anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence

from edge_server.access.credential_store import CredentialStore
from edge_server.errors import EngineFailureError

logger = logging.getLogger(__name__)

LOOK_S = 1.0
"""Time between two looks whether the access file has changed [s]."""
_EXPIRY_LOOKS = 60
"""Credentials also end by the clock: that is looked at after so many looks, at the latest."""


class RevocationWatch:
    """Looks at the access file, and has what is held looked at after each change.

    Args:
        credentials: knows the file.
        ends: each ends what is held by somebody whose credential is not good any more.
    """

    def __init__(self, credentials: CredentialStore, ends: Sequence[Callable[[], int]]) -> None:
        self._credentials = credentials
        self._ends = ends
        self._version: int | None = None
        self._looks = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """For as long as the server serves."""
        task = asyncio.create_task(self._run(), name="tokenlink-revocation")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def look(self) -> None:
        """Look once."""
        try:
            version = self._credentials.version()
        except EngineFailureError:
            return  # logged; nobody new comes in while it cannot be read
        self._looks += 1
        if version == self._version and self._looks < _EXPIRY_LOOKS:
            return
        self._version, self._looks = version, 0
        for end in self._ends:
            end()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                self.look()
            except Exception:
                logger.exception("what revoked credentials hold could not be ended; there is a next look")
