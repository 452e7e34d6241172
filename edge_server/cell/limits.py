"""How much one device, or one API key, may ask per minute, and how many streams it may hold.

Token buckets: each fills steadily, holds at most one minute's worth, and is emptied by what is asked. Only
peers who have shown who they are are counted: anybody else could take another name.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Annotated

import pydantic
from pydantic import ConfigDict, Field, PositiveFloat, PositiveInt

from edge_server.cell.peer import Peer
from edge_server.cell.token_bucket import TokenBucket
from edge_server.errors import AdmissionRefusedError

_MINUTE_S = 60.0


@pydantic.dataclasses.dataclass(frozen=True, config=ConfigDict(extra="forbid", use_attribute_docstrings=True))
class LimitConfig:
    """Bounds for each certificate or API key; as a section of settings, ``[limits]``.

    Raises:
        ValidationError: a bound is not positive.
    """

    questions_per_minute: PositiveFloat = 6000.0
    """Questions of one certificate or API key."""
    bytes_per_minute: Annotated[float, Field(ge=1024)] = 256.0 * 2**20
    """Bytes of questions of one certificate or API key."""
    max_streams: PositiveInt = 64
    """Streams of gRPC, or requests over REST, that one certificate or API key may have open."""


@dataclass
class _Account:
    questions: TokenBucket
    bytes: TokenBucket
    streams: int = 0


class _Stream:
    """A stream that is counted, as a context; a thousand may be open, so it is small."""

    __slots__ = ("_account",)

    def __init__(self, account: _Account) -> None:
        self._account = account
        account.streams += 1

    def __enter__(self) -> None:
        pass

    def __exit__(self, *ended: object) -> None:
        self._account.streams -= 1


_UNCOUNTED = nullcontext()


class Limits:
    """Counts what each peer asks. Nobody is ``None``, and is not counted.

    Args:
        config: bounds.
        clock: monotonic seconds.
    """

    def __init__(self, config: LimitConfig, clock: Callable[[], float]) -> None:
        self.config = config
        self._clock = clock
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

    def __len__(self) -> int:
        return len(self._accounts)

    def spend(self, peer: Peer | None, *, questions: int = 0, size_bytes: int = 0) -> None:
        """Count what a peer asks; all of it, or nothing if it is refused.

        Raises:
            AdmissionRefusedError: the minute's questions or bytes are used up; says when there are more.
        """
        if peer is None:
            return
        account, now_s = self._account(peer), self._clock()
        for bucket, amount, most, what, reason in (
            (account.questions, questions, self.config.questions_per_minute, "questions", "question_rate"),
            (account.bytes, size_bytes, self.config.bytes_per_minute, "bytes", "byte_rate"),
        ):
            wait_s = bucket.wait_s(amount, now_s)
            if wait_s > 0.0:
                raise AdmissionRefusedError(
                    f"{peer.name} asked more than {most:g} {what} per minute",
                    reason=reason,
                    retry_delay_s=wait_s,
                )
        account.questions.take(questions, now_s)
        account.bytes.take(size_bytes, now_s)

    def stream(self, peer: Peer | None) -> AbstractContextManager[None]:
        """Count a stream of a peer, until the context that is returned ends.

        Raises:
            AdmissionRefusedError: it holds too many already.
        """
        if peer is None:
            return _UNCOUNTED
        account = self._account(peer)
        if account.streams >= self.config.max_streams:
            raise AdmissionRefusedError(
                f"{peer.name} holds {account.streams} streams, at most {self.config.max_streams} may be",
                reason="streams",
                retry_delay_s=1.0,
            )
        return _Stream(account)

    def _account(self, peer: Peer) -> _Account:
        now_s = self._clock()
        account = self._accounts.get(peer.name)
        if account is None:
            self._forget_idle(now_s)
            config = self.config
            account = self._accounts[peer.name] = _Account(
                TokenBucket(config.questions_per_minute, config.questions_per_minute / _MINUTE_S, now_s),
                TokenBucket(config.bytes_per_minute, config.bytes_per_minute / _MINUTE_S, now_s),
            )
        self._accounts.move_to_end(peer.name)
        return account

    def _forget_idle(self, now_s: float) -> None:
        # Least recently used first: the first that still matters ends the search.
        while self._accounts:
            account = next(iter(self._accounts.values()))
            if account.streams or not (account.questions.is_full(now_s) and account.bytes.is_full(now_s)):
                return
            self._accounts.popitem(last=False)
