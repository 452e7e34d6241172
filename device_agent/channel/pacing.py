"""Holding codewords back for as long as the radio would need to send them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from device_agent.errors import ConfigurationError


def airtime_s(channel_uses: int, bandwidth_hz: float) -> float:
    """Time on the air [s]: one complex symbol per second and hertz."""
    return channel_uses / bandwidth_hz


class Pacer:
    """One radio: codewords leave one after another, each taking its airtime.

    Deadlines, not sleeps, are what is kept: a codeword that was late does not delay those after it further
    than the radio itself would.

    Args:
        bandwidth_hz: symbols per second; what is reserved from now on goes by it when it is changed.
        clock: monotonic seconds.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        bandwidth_hz: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.bandwidth_hz = bandwidth_hz
        self._clock = clock
        self._sleep = sleep
        self._free_at = clock()

    @property
    def bandwidth_hz(self) -> float:
        """Symbols per second.

        Raises:
            ConfigurationError: when it is set to something that is not above 0.
        """
        return self._bandwidth_hz

    @bandwidth_hz.setter
    def bandwidth_hz(self, bandwidth_hz: float) -> None:
        if not bandwidth_hz > 0:
            raise ConfigurationError(f"bandwidth_hz is {bandwidth_hz}; must be above 0")
        self._bandwidth_hz = bandwidth_hz

    def wait_s(self, channel_uses: int) -> float:
        """Seconds from now until a codeword's last symbol would have left, were it queued now."""
        now = self._clock()
        return max(self._free_at, now) + airtime_s(channel_uses, self.bandwidth_hz) - now

    def reserve(self, channel_uses: int) -> float:
        """Queue a codeword on the radio.

        Returns:
            Seconds from now until its last symbol has left.
        """
        now = self._clock()
        self._free_at = max(self._free_at, now) + airtime_s(channel_uses, self.bandwidth_hz)
        return self._free_at - now

    async def pace(self, channel_uses: int) -> float:
        """Queue a codeword and wait until it has left.

        Returns:
            Seconds waited.
        """
        wait_s = self.reserve(channel_uses)
        await self._sleep(wait_s)
        return wait_s
