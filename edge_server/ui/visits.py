"""How often the page is made: each time takes tens of milliseconds of the event loop, whoever asks for it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from edge_server.cell.token_bucket import TokenBucket

OF_ONE_AT_ONCE, OF_ONE_PER_S = 20.0, 2.0
OF_ALL_AT_ONCE, OF_ALL_PER_S = 40.0, 5.0
_ADDRESSES_REMEMBERED = 1024


class Visits:
    """Counts pages, by address and in all.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._all = TokenBucket(OF_ALL_AT_ONCE, OF_ALL_PER_S, clock())
        self._by_address: OrderedDict[str, TokenBucket] = OrderedDict()

    def admit(self, address: str) -> bool:
        """Whether a page may be made for somebody at this address now; it is counted if so."""
        now_s = self._clock()
        own = self._by_address.get(address)
        if own is None:
            own = self._by_address[address] = TokenBucket(OF_ONE_AT_ONCE, OF_ONE_PER_S, now_s)
            if len(self._by_address) > _ADDRESSES_REMEMBERED:
                self._by_address.popitem(last=False)
        self._by_address.move_to_end(address)
        if max(own.wait_s(1.0, now_s), self._all.wait_s(1.0, now_s)) > 0.0:
            return False
        own.take(1.0, now_s)
        self._all.take(1.0, now_s)
        return True
