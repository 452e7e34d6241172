"""Tells systemd how the agent is: ready, alive, stopping.

One datagram of ``NAME=value`` lines to the socket that ``NOTIFY_SOCKET`` names, a path or, after an ``@``, an
abstract name. ``WATCHDOG_USEC`` is the time within which a sign of life is due; half of it is what
sd_watchdog_enabled(3) advises. Source: sd_notify(3), sd_watchdog_enabled(3). Without systemd nothing is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Mapping

logger = logging.getLogger(__name__)


class Supervisor:
    """The way to whoever started this process, if anybody listens there.

    Args:
        environment: where the socket and the watchdog's time are named.
        pid: of this process; a watchdog that is meant for another is not fed.
    """

    def __init__(self, environment: Mapping[str, str] | None = None, *, pid: int | None = None) -> None:
        environment = os.environ if environment is None else environment
        pid = os.getpid() if pid is None else pid
        name = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{name[1:]}" if name.startswith("@") else name
        within_us = environment.get("WATCHDOG_USEC", "")
        is_ours = environment.get("WATCHDOG_PID", str(pid)) == str(pid)
        self._within_s = int(within_us) / 1e6 if within_us.isdecimal() and is_ours else 0.0

    @property
    def sign_of_life_s(self) -> float:
        """Between two signs of life [s]; 0: none are wanted."""
        return self._within_s / 2 if self._address else 0.0

    def tell(self, **state: str) -> None:
        """Send what is so now; nobody listening is no reason to stop working."""
        if not self._address:
            return
        message = "\n".join(f"{name}={value}" for name, value in state.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.sendto(message.encode(), self._address)
        except OSError as error:
            logger.warning("the service manager cannot be told %s: %s", ", ".join(state), error)


@contextlib.asynccontextmanager
async def supervised(doing: str, supervisor: Supervisor | None = None) -> AsyncIterator[None]:
    """Be ready, give signs of life as long as the event loop turns, and say when it ends.

    Args:
        doing: shown by ``systemctl status``.
        supervisor: whom to tell; by default, whoever started this process.
    """
    supervisor = supervisor or Supervisor()
    supervisor.tell(READY="1", STATUS=doing)
    living = asyncio.create_task(_live(supervisor), name="tokenlink-signs-of-life")
    try:
        yield
    finally:
        supervisor.tell(STOPPING="1", STATUS="stopping")
        living.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await living


async def _live(supervisor: Supervisor) -> None:
    while supervisor.sign_of_life_s > 0:
        supervisor.tell(WATCHDOG="1")
        await asyncio.sleep(supervisor.sign_of_life_s)
