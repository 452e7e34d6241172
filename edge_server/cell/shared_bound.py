"""One bound over everybody, and a lower one for each: what one holder takes, others still have the rest of.

Counts whatever is held for somebody: bytes in memory, connections, calls, sessions. A holder is named by
whoever counts: a certificate's device, an API key, or an address where nobody had to show who they are.
"""

from __future__ import annotations

import math
from types import TracebackType

from edge_server.errors import AdmissionRefusedError


def share_of(in_all: int, part: float) -> int:
    """What one holder may take of a bound.

    Args:
        in_all: the bound.
        part: of it, above 0, at most 1.
    """
    return max(math.ceil(in_all * part), 1)


class SharedBound:
    """Counts what is held. Used by one thread.

    Args:
        what: is counted, for messages (``"bytes"``).
        in_all: most of it.
        of_one: most of it that one holder may have.
        reason: one word for metrics.
        retry_delay_s: after which another try may succeed [s].
    """

    def __init__(
        self, what: str, *, in_all: int, of_one: int, reason: str, retry_delay_s: float = 1.0
    ) -> None:
        self._what = what
        self.in_all = in_all
        self.of_one = of_one
        self._reason = reason
        self._retry_delay_s = retry_delay_s
        self._held = 0
        self._held_by: dict[str, int] = {}

    @property
    def held(self) -> int:
        """By everybody."""
        return self._held

    def held_by(self, holder: str) -> int:
        """By one."""
        return self._held_by.get(holder, 0)

    def take(self, holder: str, amount: int = 1) -> None:
        """Count something that is held from now on; nothing is counted where it is refused.

        Raises:
            AdmissionRefusedError: a bound is reached.
        """
        own = self._held_by.get(holder, 0)
        if own + amount > self.of_one:
            raise self._refused(f"{own} {self._what} are held for {holder}, at most {self.of_one} may be")
        if self._held + amount > self.in_all:
            raise self._refused(f"{self._held} {self._what} are held, at most {self.in_all} may be")
        self._held += amount
        self._held_by[holder] = own + amount

    def give(self, holder: str, amount: int = 1) -> None:
        """It is held no more."""
        left = self._held_by[holder] - amount
        self._held -= amount
        if left:
            self._held_by[holder] = left
        else:
            del self._held_by[holder]

    def hold(self, holder: str, amount: int = 0) -> Hold:
        """Hold something until the context that is returned ends; it can grow meanwhile.

        Raises:
            AdmissionRefusedError: a bound is reached.
        """
        return Hold(self, holder, amount)

    def _refused(self, message: str) -> AdmissionRefusedError:
        return AdmissionRefusedError(message, reason=self._reason, retry_delay_s=self._retry_delay_s)


class Hold:
    """What is held for one purpose, as a context."""

    __slots__ = ("_amount", "_bound", "_holder")

    def __init__(self, bound: SharedBound, holder: str, amount: int) -> None:
        self._bound = bound
        self._holder = holder
        self._amount = 0
        if amount:
            self.add(amount)

    def add(self, amount: int) -> None:
        """Hold more.

        Raises:
            AdmissionRefusedError: a bound is reached; what was held before still is.
        """
        self._bound.take(self._holder, amount)
        self._amount += amount

    def release(self) -> None:
        """Hold nothing more; harmless twice."""
        amount, self._amount = self._amount, 0
        if amount:
            self._bound.give(self._holder, amount)

    def __enter__(self) -> Hold:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
