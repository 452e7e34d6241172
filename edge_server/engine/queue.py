"""The bounded queue in front of the batch: fair between users, by virtual token counters.

Every user has a counter of the service it received (context positions prefilled, language tokens
decoded). The next question is always taken from the waiting user with the smallest counter, so a user
with a hundred questions waiting does not delay one with a single question. A user that was away starts
at the smallest counter among those who wait: absence is no credit.
Source: Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024 (VTC).
"""

from __future__ import annotations

import heapq
import itertools
import math
import threading

from edge_server.engine.request import Job
from edge_server.errors import EngineOverloadedError

TOKEN_COST = 2.0
"""Service of one decoded token, in prefilled positions: decoding is the dearer half (VTC's weights)."""

_COUNTERS_KEPT = 1024


class FairQueue:
    """Questions that wait. Thread-safe: the event loop pushes and removes, the worker pops.

    Args:
        max_jobs: bound over all users.
        max_jobs_per_user: bound for each.
    """

    def __init__(self, max_jobs: int, max_jobs_per_user: int) -> None:
        self._max_jobs = max_jobs
        self._max_jobs_per_user = max_jobs_per_user
        self._changed = threading.Condition()
        self._waiting: dict[str, dict[Job, None]] = {}
        self._size = 0
        self._service: dict[str, float] = {}
        self._floor = 0.0
        # One entry per user; its counter may have grown since, never shrunk: corrected when it surfaces.
        self._order: list[tuple[float, int, str]] = []
        self._ordered: set[str] = set()
        self._tickets = itertools.count()
        self._earliest_deadline = math.inf
        self._woken = False

    def __len__(self) -> int:
        return self._size

    def refuse_if_full(self, user: str, seconds_per_question: float) -> None:
        """Tell, without pushing, whether a question of this user would be turned away.

        Raises:
            EngineOverloadedError: as :meth:`push` would.
        """
        with self._changed:
            self._find_room(user, seconds_per_question)

    def push(self, job: Job, seconds_per_question: float) -> Job | None:
        """Let a question wait.

        Args:
            job: the question.
            seconds_per_question: current pace, from which the retry delay is estimated [s].

        Returns:
            The question that had to leave for it, newest of the user with the most waiting, if the
            queue was full and that user had more waiting than this one.

        Raises:
            EngineOverloadedError: the queue, or this user's share of it, is full.
        """
        user = job.request.user
        with self._changed:
            evicted = self._find_room(user, seconds_per_question)
            if evicted is not None:
                self._discard(evicted)
            if user not in self._waiting:
                self._service[user] = max(self._service.get(user, 0.0), self._smallest_service())
                self._waiting[user] = {}
                if user not in self._ordered:
                    self._ordered.add(user)
                    heapq.heappush(self._order, (self._service[user], next(self._tickets), user))
            self._waiting[user][job] = None
            self._size += 1
            self._earliest_deadline = min(self._earliest_deadline, job.deadline_at)
            self._changed.notify()
        return evicted

    def pop(self, room: int) -> Job | None:
        """The next question, charged to its user; None where none waits or the next one does not fit.

        A question that does not fit is waited for: passing it over would starve long prompts.

        Args:
            room: context positions that it may take.
        """
        with self._changed:
            user = self._next_user()
            if user is None:
                return None
            job = next(iter(self._waiting[user]))
            if job.reserved > room:
                return None
            self._discard(job)
            self._floor = max(self._floor, self._service[user])
            self._service[user] += job.positions
            if not self._waiting:
                # Whoever comes next competes with nobody: time has gone on to where the last one stands.
                self._floor = max(self._floor, self._service[user])
            self._forget_old_counters()
            return job

    def charge_tokens(self, users: list[str]) -> None:
        """Count one decoded language token for each of these users (with repetition)."""
        with self._changed:
            for user in users:
                self._service[user] = self._service.get(user, self._floor) + TOKEN_COST

    def remove(self, job: Job) -> bool:
        """Take a question out, wherever it stands; False if it does not wait (any more)."""
        with self._changed:
            if job not in self._waiting.get(job.request.user, {}):
                return False
            self._discard(job)
            return True

    def remove_expired(self, now: float) -> list[Job]:
        """Take out every question whose deadline has passed."""
        if now < self._earliest_deadline:
            return []
        with self._changed:
            everything = [job for jobs in self._waiting.values() for job in jobs]
            expired = [job for job in everything if job.deadline_at <= now]
            for job in expired:
                self._discard(job)
            self._earliest_deadline = min(
                (job.deadline_at for job in everything if job.deadline_at > now), default=math.inf
            )
            return expired

    def wait(self) -> None:
        """Block until a question waits or :meth:`wake` is called."""
        with self._changed:
            self._changed.wait_for(lambda: self._size > 0 or self._woken)
            self._woken = False

    def wake(self) -> None:
        """End a :meth:`wait` that has nothing to wait for."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def _find_room(self, user: str, seconds_per_question: float) -> Job | None:
        own = len(self._waiting.get(user, {}))
        if own >= self._max_jobs_per_user:
            raise EngineOverloadedError(
                f"{own} questions of this user are waiting, at most {self._max_jobs_per_user} may",
                reason="queue_per_user",
                # The user's questions are served in turn with everybody else's.
                retry_delay_s=_retry_delay_s(own * len(self._waiting), seconds_per_question),
            )
        if self._size < self._max_jobs:
            return None
        longest = max(self._waiting.values(), key=len)
        if len(longest) > own + 1:
            return next(reversed(longest))
        raise EngineOverloadedError(
            f"{self._size} questions are waiting, at most {self._max_jobs} may",
            reason="queue",
            retry_delay_s=_retry_delay_s(self._size, seconds_per_question),
        )

    def _discard(self, job: Job) -> None:
        user = job.request.user
        jobs = self._waiting[user]
        del jobs[job]
        self._size -= 1
        if not jobs:
            del self._waiting[user]

    def _next_user(self) -> str | None:
        while self._order:
            service, _, user = self._order[0]
            if user not in self._waiting:
                heapq.heappop(self._order)
                self._ordered.remove(user)
            elif service < self._service[user]:
                heapq.heapreplace(self._order, (self._service[user], next(self._tickets), user))
            else:
                return user
        return None

    def _smallest_service(self) -> float:
        user = self._next_user()
        return self._floor if user is None else self._service[user]

    def _forget_old_counters(self) -> None:
        # A counter at or below the floor would be lifted to it anyway: it carries no information.
        if len(self._service) > _COUNTERS_KEPT + 2 * len(self._waiting):
            self._service = {
                user: service
                for user, service in self._service.items()
                if service > self._floor or user in self._waiting
            }


def _retry_delay_s(questions_ahead: int, seconds_per_question: float) -> float:
    return min(max(questions_ahead * seconds_per_question, 0.05), 30.0)
