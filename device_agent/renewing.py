"""This device's certificate is renewed by itself: from half of its life on, and after its end as the server
allows.

Only the server's clock counts. When it is time, it says with every session; a certificate that has ended is
told by a refusal.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from device_agent.errors import (
    DeviceAgentError,
    OverloadedError,
    ServerUnreachableError,
    UnauthenticatedError,
)
from device_agent.lasting import boot_clock
from device_agent.uplink.credentials import CERTIFICATE, RENEWAL, Credentials

logger = logging.getLogger(__name__)

AGAIN_AFTER_S, AGAIN_IF_FULL_S = 3600.0, 30.0
"""Between two tries [s]."""
_HANDSHAKE = ("Socket closed", "handshake", "SSL_ERROR", "CERTIFICATE_EXPIRED")
"""How gRPC tells that the other side closes connections that show no good certificate."""


class Renewer:
    """Implements :class:`device_agent.uplink.credentials.Renews` for an identity's folder.

    Args:
        folder: of the identity.
        credentials: reads what is to be shown from there.
        use_proxy: go through the proxy that the environment names; None: not to neighbours.
        clock: seconds, of sleep too, between tries.
        wall_clock: seconds since the Unix epoch, as far as this device knows: a hint, no more.
    """

    def __init__(
        self,
        folder: Path,
        credentials: Callable[[], Credentials | None],
        *,
        use_proxy: bool | None = None,
        clock: Callable[[], float] = boot_clock,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._credentials = credentials
        self._use_proxy = use_proxy
        self._clock = clock
        self._wall_clock = wall_clock
        self._next_s = clock()

    def is_due(self, server_time_s: float) -> bool:
        """Whether it is time, by the server's clock."""
        if self._clock() < self._next_s or not (self._folder / RENEWAL).is_file():
            return False
        from device_agent.enrol import Renewal  # only here is anything signed

        noted = Renewal.read(self._folder)
        return noted is not None and server_time_s >= noted.renew_at_s

    def may_help(self, error: Exception) -> bool:
        """Whether it may be for want of a good certificate that a server cannot be reached, or refuses."""
        if self._clock() < self._next_s or not (self._folder / RENEWAL).is_file():
            return False
        if isinstance(error, UnauthenticatedError):
            return True
        told = any(word in str(error) for word in _HANDSHAKE)
        return isinstance(error, ServerUnreachableError) and (told or self._has_ended())

    async def renew(self) -> Credentials | None:
        """Try, once an hour; what cannot be had is said."""
        from device_agent.enrol import Renewal, renew

        self._next_s = self._clock() + AGAIN_AFTER_S
        noted = Renewal.read(self._folder)
        if noted is None:
            return None
        try:
            identity = await renew(self._folder, noted, use_proxy=self._use_proxy)
            logger.info("the certificate of %s is renewed", identity.device_id)
            return self._credentials()
        except OverloadedError as error:
            # A fleet behind one address may come all at once.
            self._next_s = self._clock() + AGAIN_IF_FULL_S
            logger.warning("the certificate of this device is not renewed yet: %s", error)
            return None
        except DeviceAgentError as error:
            logger.warning("the certificate of this device is not renewed: %s", error)
            return None

    def _has_ended(self) -> bool:
        from cryptography import x509

        try:
            certificate = x509.load_pem_x509_certificate((self._folder / CERTIFICATE).read_bytes())
        except (OSError, ValueError):
            return False
        return certificate.not_valid_after_utc.timestamp() <= self._wall_clock()
