"""Answers that wait until their device has them safe.

A device keeps a question until its answer has come. If the link is cut in between, it asks again, perhaps
over another session, perhaps after a restart of this server; the answer must still be here. It goes when the
device acknowledges it, or by the bounds: a number per device, a number in all, a time to live.

Held in memory; an :class:`AnswerStore` keeps a copy that outlives the process.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from edge_server.engine import Completion

logger = logging.getLogger(__name__)

Key: TypeAlias = tuple[str, str]
"""device_id, request_id."""
DropReason: TypeAlias = Literal["expired", "device_full", "full"]


@dataclass(frozen=True)
class KeptAnswer:
    """An answer that its device has not acknowledged.

    Attributes:
        device_id: who asked.
        request_id: its question's key.
        digest: of its question's content.
        completion: the answer.
        answered_at_s: on a clock that goes on across restarts [s].
    """

    device_id: str
    request_id: str
    digest: bytes
    completion: Completion
    answered_at_s: float

    @property
    def key(self) -> Key:
        """What it is found by."""
        return self.device_id, self.request_id


class AnswerStore(Protocol):
    """The port to a copy that outlives the process. Both calls return at once."""

    def put(self, answer: KeptAnswer) -> asyncio.Future[None]:
        """Keep an answer.

        Returns:
            Done once it is safe, or once it is known that it cannot be made so; it never fails.
        """

    def forget(self, keys: Sequence[Key]) -> None:
        """Keep these no longer; unknown ones do not matter."""


class AnswersObserver(Protocol):
    """The port through which kept answers are watched."""

    def answers_kept(self, count: int) -> None:
        """Answers that wait to be acknowledged, after this changed."""

    def answers_dropped(self, reason: DropReason, count: int) -> None:
        """Answers that nobody acknowledged went by a bound."""


class KeptAnswers:
    """The answers of all devices, oldest first.

    Args:
        per_device: bound for each device.
        in_all: bound.
        kept_s: time to live [s].
        clock: seconds; goes on across restarts where there is a copy.
        store: a copy that outlives the process; None: there is none.
        restored: what that copy holds, oldest first.
        observer: is told what happens.
    """

    def __init__(
        self,
        per_device: int,
        in_all: int,
        kept_s: float,
        *,
        clock: Callable[[], float] = time.time,
        store: AnswerStore | None = None,
        restored: Iterable[KeptAnswer] = (),
        observer: AnswersObserver | None = None,
    ) -> None:
        self._per_device = per_device
        self._in_all = in_all
        self._kept_s = kept_s
        self._clock = clock
        self._store = store
        self._observer = observer
        self._answers: OrderedDict[Key, KeptAnswer] = OrderedDict()
        self._of_device: dict[str, OrderedDict[str, None]] = {}
        for answer in restored:
            self._insert(answer)
        self._expire()
        for device_id in list(self._of_device):
            self._make_room(device_id)
        self._tell()

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, device_id: str, request_id: str) -> KeptAnswer | None:
        """The answer to a device's question, if it is still here."""
        self._expire()
        return self._answers.get((device_id, request_id))

    def keep(
        self, device_id: str, request_id: str, digest: bytes, completion: Completion
    ) -> asyncio.Future[None] | None:
        """Keep an answer.

        Returns:
            Done once the copy is safe; None where there is no copy.
        """
        answer = KeptAnswer(device_id, request_id, digest, completion, self._clock())
        self._insert(answer)
        stored = self._store.put(answer) if self._store is not None else None
        self._expire()
        self._make_room(device_id)
        self._tell()
        return stored

    def acknowledge(self, device_id: str, request_ids: Iterable[str]) -> None:
        """The device has these; unknown ones do not matter."""
        gone = [key for request_id in request_ids if self._remove(key := (device_id, request_id))]
        self._forget(gone)

    def _insert(self, answer: KeptAnswer) -> None:
        self._remove(answer.key)
        self._answers[answer.key] = answer
        self._of_device.setdefault(answer.device_id, OrderedDict())[answer.request_id] = None

    def _remove(self, key: Key) -> bool:
        if self._answers.pop(key, None) is None:
            return False
        device_id, request_id = key
        own = self._of_device[device_id]
        del own[request_id]
        if not own:
            del self._of_device[device_id]
        return True

    def _expire(self) -> None:
        oldest_kept_s = self._clock() - self._kept_s
        while self._answers and next(iter(self._answers.values())).answered_at_s <= oldest_kept_s:
            self._drop(next(iter(self._answers)), "expired")

    def _make_room(self, device_id: str) -> None:
        own = self._of_device.get(device_id, OrderedDict())
        while len(own) > self._per_device:
            self._drop((device_id, next(iter(own))), "device_full")
        while len(self._answers) > self._in_all:
            self._drop(next(iter(self._answers)), "full")

    def _drop(self, key: Key, reason: DropReason) -> None:
        self._remove(key)
        self._forget([key])
        logger.debug(
            "an answer that was not acknowledged goes", extra={"device_id": key[0], "reason": reason}
        )
        if self._observer is not None:
            self._observer.answers_dropped(reason, 1)

    def _forget(self, keys: Sequence[Key]) -> None:
        if keys:
            if self._store is not None:
                self._store.forget(keys)
            self._tell()

    def _tell(self) -> None:
        if self._observer is not None:
            self._observer.answers_kept(len(self._answers))
