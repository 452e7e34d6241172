"""What each peer has asked lately and holds now: the accounts that limits count in.

In memory of one process, or (:mod:`edge_server.cell.shared_accounts`) shared by several that open one
port together.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from edge_server.cell.token_bucket import TokenBucket

_MINUTE_S = 60.0


@dataclass(frozen=True)
class Rates:
    """What one peer may ask in a minute, which is also what it may ask at once.

    Attributes:
        questions: so many.
        size_bytes: of so many bytes.
    """

    questions: float
    size_bytes: float

    def buckets(self, now_s: float) -> tuple[TokenBucket, TokenBucket]:
        """Full ones: of questions, and of bytes."""
        return (
            TokenBucket(self.questions, self.questions / _MINUTE_S, now_s),
            TokenBucket(self.size_bytes, self.size_bytes / _MINUTE_S, now_s),
        )


@dataclass
class Account:
    """Of one peer.

    Attributes:
        questions: that it may ask.
        bytes: of them.
        streams: it holds here.
        sessions: it has open here.
        streams_elsewhere: it holds at other processes that share the account.
        sessions_elsewhere: likewise.
    """

    questions: TokenBucket
    bytes: TokenBucket
    streams: int = 0
    sessions: int = 0
    streams_elsewhere: int = 0
    sessions_elsewhere: int = 0

    @property
    def all_streams(self) -> int:
        """Here and elsewhere."""
        return self.streams + self.streams_elsewhere

    @property
    def all_sessions(self) -> int:
        """Here and elsewhere."""
        return self.sessions + self.sessions_elsewhere

    def is_idle(self, now_s: float) -> bool:
        """Whether forgetting it would change nothing."""
        held = self.all_streams + self.all_sessions
        return not held and self.questions.is_full(now_s) and self.bytes.is_full(now_s)


class Accounts(Protocol):
    """The accounts of all peers. Used by one thread."""

    def of(self, name: str) -> AbstractContextManager[Account]:
        """A peer's, for looking at and changing until the context ends; nobody else changes it meanwhile."""


class LocalAccounts:
    """Accounts of one process.

    Args:
        rates: of each peer.
        clock: monotonic seconds.
    """

    def __init__(self, rates: Rates, clock: Callable[[], float]) -> None:
        self._rates = rates
        self._clock = clock
        self._accounts: OrderedDict[str, Account] = OrderedDict()

    def __len__(self) -> int:
        return len(self._accounts)

    def of(self, name: str) -> AbstractContextManager[Account]:
        """See :class:`Accounts`."""
        account = self._accounts.get(name)
        if account is None:
            now_s = self._clock()
            self._forget_idle(now_s)
            account = self._accounts[name] = Account(*self._rates.buckets(now_s))
        self._accounts.move_to_end(name)
        return nullcontext(account)

    def _forget_idle(self, now_s: float) -> None:
        # Least recently used first: the first that still matters ends the search.
        while self._accounts:
            if not next(iter(self._accounts.values())).is_idle(now_s):
                return
            self._accounts.popitem(last=False)
