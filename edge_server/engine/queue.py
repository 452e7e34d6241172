"""The bounded queue in front of the batch: fair between users, with a class for what nobody waits for.

    interactive  ─┐ 8 parts   users take turns inside each class
                  ├──▶ batch  (:mod:`edge_server.engine.share`)
    background   ─┘ 1 part

While both classes wait, service is shared in this proportion, by the same kind of counter that shares it
between users: background questions go on slowly and never starve. Where one class is alone, it gets all.

Who asks one question after another never has two that wait, so shares do not protect that user: while an
interactive question was among the last that were taken, few background ones are under way at once.

Turns bound how long a question waits for others to be taken, not how long those take: a batch that one user
has filled is a slow one for everybody who joins it. So a user holds no more than part of the rows while
others have questions too.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from types import MappingProxyType

from edge_server.engine.request import Job, Priority
from edge_server.engine.share import FairShare
from edge_server.errors import EngineOverloadedError

#: Of what is unanswered when somebody is refused, this much is answered before it pays to come again: a crowd
#: that comes back to more room is refused less often; were all of it free, the model would have been idle.
_DRAINED_SHARE = 0.75

TOKEN_COST = 2.0
"""Service of one decoded token, in prefilled positions: decoding is the dearer half (VTC's weights)."""

PARTS: Mapping[Priority, float] = MappingProxyType({"interactive": 8.0, "background": 1.0})
"""Shares of the classes while all of them wait."""


_FORGOTTEN_AFTER = 16
"""Background questions, one after another, after which nobody is thought to ask interactively."""


class FairQueue:
    """Questions that wait. Thread-safe: the event loop pushes and removes, workers pop.

    Args:
        max_jobs: bound over all users and classes.
        max_jobs_per_user: bound for each user, over all classes.
        max_taken_per_user: of a user's questions that were taken and not released, while there are others'.
        max_background_beside: of background questions likewise, while somebody asks interactively.
    """

    def __init__(
        self,
        max_jobs: int,
        max_jobs_per_user: int,
        max_taken_per_user: float = math.inf,
        max_background_beside: float = math.inf,
    ) -> None:
        self._max_jobs = max_jobs
        self._max_jobs_per_user = max_jobs_per_user
        self._max_taken_per_user = max_taken_per_user
        self._max_background_beside = max_background_beside
        self._background_taken = 0
        self._since_interactive = _FORGOTTEN_AFTER
        self._taken: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._classes: dict[Priority, FairShare] = {priority: FairShare() for priority in PARTS}
        # Service that each class received, over its part; a class that was away gets no credit for it.
        self._service: dict[Priority, float] = dict.fromkeys(PARTS, 0.0)
        self._floor = 0.0
        self._size = 0
        self._earliest_deadline = math.inf

    def __len__(self) -> int:
        return self._size

    @property
    def asked_interactively(self) -> bool:
        """Whether an interactive question was among the last that were taken."""
        return self._since_interactive < _FORGOTTEN_AFTER

    def limit_users(self, max_taken_per_user: float) -> None:
        """Set anew how many of a user's questions may be taken at once, while there are others'."""
        with self._changed:
            self._max_taken_per_user = max_taken_per_user

    def refuse_if_full(
        self, user: str, seconds_per_question: float, priority: Priority = "interactive"
    ) -> None:
        """Tell, without pushing, whether a question of this user would be turned away.

        Raises:
            EngineOverloadedError: as :meth:`push` would.
        """
        with self._changed:
            self._find_room(user, priority, seconds_per_question)

    def push(self, job: Job, seconds_per_question: float) -> Job | None:
        """Let a question wait.

        Args:
            job: the question.
            seconds_per_question: current rate, from which the retry delay is estimated [s].

        Returns:
            The question that had to leave for it if the queue was full: background makes room for
            interactive, and inside a class the newest question of the user with the most waiting, where
            these were at least twice as many as this user's are now.

        Raises:
            EngineOverloadedError: the queue, or this user's share of it, is full.
        """
        priority = job.request.priority
        share = self._classes[priority]
        with self._changed:
            evicted = self._find_room(job.request.user, priority, seconds_per_question)
            if evicted is not None:
                self._discard(evicted)
            if not share.waiting:
                # Background begins behind everybody; interactive where the last question was taken.
                begin = self._floor if priority == "interactive" else max(self._service.values())
                self._service[priority] = max(self._service[priority], begin)
            share.add(job)
            self._size += 1
            self._earliest_deadline = min(self._earliest_deadline, job.deadline_at)
            self._changed.notify()
        return evicted

    def pop(self, room: int, *, background: bool = True) -> Job | None:
        """The next question, charged to its user; None where none may be taken or the next one does not fit.

        A question that does not fit is waited for: passing it over would starve long prompts. Whoever takes
        one tells when it has ended (:meth:`release`).

        Args:
            room: context positions that it may take.
            background: whether it may be a background question.
        """
        with self._changed:
            first = self._first()
            if not background:
                first.pop("background", None)
            if not first:
                return None
            # By where each would stand afterwards: what costs its class much waits for its time.
            priority = min(first, key=lambda each: self._service[each] + first[each].positions / PARTS[each])
            job, share = first[priority], self._classes[priority]
            if job.reserved > room:
                return None
            share.take(job)
            self._taken[job.request.user] += 1
            if priority == "background":
                self._background_taken += 1
                self._since_interactive += 1
            else:
                self._since_interactive = 0
            self._size -= 1
            self._floor = max(self._floor, self._service[priority])
            self._service[priority] += job.positions / PARTS[priority]
            return job

    def release(self, job: Job) -> None:
        """A question that was taken has ended."""
        with self._changed:
            self._give_back(job)
            self._tell_who_waits()

    def put_back(self, job: Job) -> None:
        """A question that was taken waits again, before its user's others; it was accepted, bounds or not."""
        with self._changed:
            self._give_back(job)
            self._classes[job.request.priority].put_back(job)
            self._size += 1
            self._earliest_deadline = min(self._earliest_deadline, job.deadline_at)
            self._tell_who_waits()

    def charge_tokens(self, jobs: Sequence[Job]) -> None:
        """Count one decoded language token for each of these questions."""
        with self._changed:
            for job in jobs:
                priority = job.request.priority
                self._classes[priority].charge(job.request.user, TOKEN_COST)
                self._service[priority] += TOKEN_COST / PARTS[priority]

    def remove(self, job: Job) -> bool:
        """Take a question out, wherever it stands; False if it does not wait (any more)."""
        with self._changed:
            return self._discard(job)

    def remove_expired(self, now: float) -> list[Job]:
        """Take out every question whose deadline has passed."""
        if now < self._earliest_deadline:
            return []
        with self._changed:
            everything = [
                job for share in self._classes.values() for jobs in share.waiting.values() for job in jobs
            ]
            expired = [job for job in everything if job.deadline_at <= now]
            for job in expired:
                self._discard(job)
            self._earliest_deadline = min(
                (job.deadline_at for job in everything if job.deadline_at > now), default=math.inf
            )
            return expired

    def wait(self, otherwise: Callable[[], bool], timeout_s: float | None = None) -> None:
        """Block until a question may be taken or something else is the case, looked at on :meth:`wake`."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._first()) or otherwise(), timeout_s)

    def pause(self, otherwise: Callable[[], bool], timeout_s: float) -> None:
        """Block for a while, whatever waits, or until something is the case, looked at on :meth:`wake`."""
        with self._changed:
            self._changed.wait_for(otherwise, timeout_s)

    def wake(self) -> None:
        """Have everybody who waits look again."""
        with self._changed:
            self._changed.notify_all()

    def _give_back(self, job: Job) -> None:
        """A question that was taken is so no more."""
        user = job.request.user
        self._taken[user] -= 1
        if not self._taken[user]:
            del self._taken[user]
        self._background_taken -= job.request.priority == "background"

    def _first(self) -> dict[Priority, Job]:
        """The question of each class whose turn it is."""
        held_back = self._held_back()
        first = {priority: share.first(held_back) for priority, share in self._classes.items()}
        if self.asked_interactively and self._background_taken >= self._max_background_beside:
            del first["background"]
        return {priority: job for priority, job in first.items() if job is not None}

    def _held_back(self) -> Set[str]:
        """Users that hold all they may."""
        users = {user for user, taken in self._taken.items() if taken >= self._max_taken_per_user}
        alone = len(self._taken) == 1 and all(
            share.waiting.keys() <= users for share in self._classes.values()
        )
        return frozenset() if alone else users

    def _find_room(self, user: str, priority: Priority, seconds_per_question: float) -> Job | None:
        own = sum(len(share.waiting.get(user, {})) for share in self._classes.values())
        if own >= self._max_jobs_per_user:
            users = sum(len(share.waiting) for share in self._classes.values())
            raise EngineOverloadedError(
                f"{own} questions of this user are waiting, at most {self._max_jobs_per_user} may",
                reason="queue_per_user",
                # The user's questions are served in turn with everybody else's.
                retry_delay_s=retry_delay_s(own * users, seconds_per_question),
            )
        if self._size < self._max_jobs:
            return None
        if priority == "interactive":
            heaviest = self._classes["background"].newest_of_heaviest()
            if heaviest is not None:
                return heaviest[0]
        share = self._classes[priority]
        heaviest = share.newest_of_heaviest()
        # Among users that ask about as much, each would else put out the others' questions, and all the work
        # that these have cost already.
        if heaviest is not None and heaviest[1] >= 2 * (len(share.waiting.get(user, {})) + 1):
            return heaviest[0]
        raise EngineOverloadedError(
            f"{self._size} questions are waiting, at most {self._max_jobs} may",
            reason="queue",
            retry_delay_s=crowd_delay_s(self._size, seconds_per_question),
        )

    def _discard(self, job: Job) -> bool:
        found = self._classes[job.request.priority].discard(job)
        self._size -= found
        # Who was held back beside this one may be alone now.
        self._tell_who_waits()
        return found

    def _tell_who_waits(self) -> None:
        # A thread that is woken for nothing takes the interpreter's lock from one that works.
        if self._size:
            self._changed.notify_all()


def crowd_delay_s(questions: int, seconds_per_question: float) -> float:
    """After how long it pays to come again to so many unanswered questions [s]."""
    return retry_delay_s(int(_DRAINED_SHARE * questions), seconds_per_question)


def retry_delay_s(questions_ahead: int, seconds_per_question: float) -> float:
    """After how long another try pays, where so many questions have to be answered first [s]."""
    return min(max(questions_ahead * seconds_per_question, 0.05), 30.0)
