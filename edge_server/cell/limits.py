"""How much one device, or one API key, may ask per minute, and how many streams it may hold.

Token buckets: each fills steadily, holds at most one minute's worth, and is emptied by what is asked. Only
peers who have shown who they are are counted: anybody else could take another name.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated

import pydantic
from pydantic import ConfigDict, Field, PositiveFloat, PositiveInt

from edge_server.cell.accounts import Accounts, LocalAccounts, Rates
from edge_server.cell.peer import Peer
from edge_server.errors import AdmissionRefusedError


@pydantic.dataclasses.dataclass(
    frozen=True, config=ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
)
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

    @property
    def rates(self) -> Rates:
        """As accounts take them."""
        return Rates(self.questions_per_minute, self.bytes_per_minute)


class _Stream:
    """A stream that is counted, as a context; a thousand may be open, so it is small."""

    __slots__ = ("_accounts", "_name")

    def __init__(self, accounts: Accounts, name: str) -> None:
        self._accounts, self._name = accounts, name

    def __enter__(self) -> None:
        pass

    def __exit__(self, *ended: object) -> None:
        with self._accounts.of(self._name) as account:
            account.streams -= 1


_UNCOUNTED = nullcontext()


class Limits:
    """Counts what each peer asks. Nobody is ``None``, and is not counted.

    Args:
        config: bounds.
        clock: monotonic seconds.
        accounts: where it is counted; None: in memory.
    """

    def __init__(
        self, config: LimitConfig, clock: Callable[[], float], accounts: Accounts | None = None
    ) -> None:
        self.config = config
        self.accounts = accounts if accounts is not None else LocalAccounts(config.rates, clock)
        self._clock = clock

    def spend(self, peer: Peer | None, *, questions: int = 0, size_bytes: int = 0) -> None:
        """Count what a peer asks; all of it, or nothing if it is refused.

        Raises:
            AdmissionRefusedError: the minute's questions or bytes are used up; says when there are more.
        """
        if peer is None:
            return
        with self.accounts.of(peer.name) as account:
            now_s = self._clock()
            for bucket, amount, most, what, reason in (
                (
                    account.questions,
                    questions,
                    self.config.questions_per_minute,
                    "questions",
                    "question_rate",
                ),
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
        with self.accounts.of(peer.name) as account:
            if account.all_streams >= self.config.max_streams:
                raise AdmissionRefusedError(
                    f"{peer.name} holds {account.all_streams} streams, at most {self.config.max_streams} may "
                    "be",
                    reason="streams",
                    retry_delay_s=1.0,
                )
            account.streams += 1
        return _Stream(self.accounts, peer.name)
