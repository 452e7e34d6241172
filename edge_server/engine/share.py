"""Fair turns between the users of one class, by virtual token counters.

Every user has a counter of the service it received (context positions prefilled, language tokens
decoded). The next question is always taken from the waiting user with the smallest counter, so a user
with a hundred questions waiting does not delay one with a single question. A user that was away starts
at the smallest counter among those who wait: absence is no credit.
Source: Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024 (VTC).
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Set

from edge_server.engine.request import Job

_COUNTERS_KEPT = 1024


class FairShare:
    """Questions of one class that wait, by user. Not thread-safe.

    Attributes:
        waiting: each waiting user's questions, the oldest first.
    """

    def __init__(self) -> None:
        self.waiting: dict[str, dict[Job, None]] = {}
        self._service: dict[str, float] = {}
        self._floor = 0.0
        # One entry per user; its counter may have grown since, never shrunk: corrected when it surfaces.
        self._order: list[tuple[float, int, str]] = []
        self._ordered: set[str] = set()
        self._tickets = itertools.count()

    def add(self, job: Job) -> None:
        """Let a question wait behind its user's others."""
        user = job.request.user
        if user not in self.waiting:
            self._service[user] = max(self._service.get(user, 0.0), self._smallest_service())
            self.waiting[user] = {}
            if user not in self._ordered:
                self._ordered.add(user)
                heapq.heappush(self._order, (self._service[user], next(self._tickets), user))
        self.waiting[user][job] = None

    def put_back(self, job: Job) -> None:
        """Let a question that was taken wait again, before its user's others.

        Taken again, its prompt is charged once more, as it is read once more: counters never shrink.
        """
        self.add(job)
        user = job.request.user
        self.waiting[user] = {job: None, **self.waiting[user]}

    def discard(self, job: Job) -> bool:
        """Take a question out; False if it does not wait."""
        user = job.request.user
        jobs = self.waiting.get(user, {})
        if job not in jobs:
            return False
        del jobs[job]
        if not jobs:
            del self.waiting[user]
        return True

    def first(self, passed_over: Set[str] = frozenset()) -> Job | None:
        """The question whose turn it is; None where none waits but of users that are passed over."""
        user = self._next_user()
        if user in passed_over:
            others = [other for other in self.waiting if other not in passed_over]
            user = min(others, key=self._service.__getitem__, default=None)
        return None if user is None else next(iter(self.waiting[user]))

    def take(self, job: Job) -> None:
        """Take the question whose turn it is, and charge its user for its prompt."""
        user = job.request.user
        self.discard(job)
        self._floor = max(self._floor, self._service[user])
        self._service[user] += job.positions
        if not self.waiting:
            # Whoever comes next competes with nobody: time has gone on to where the last one stands.
            self._floor = max(self._floor, self._service[user])
        self._forget_old_counters()

    def charge(self, user: str, service: float) -> None:
        """Count service that a user received."""
        self._service[user] = self._service.get(user, self._floor) + service

    def newest_of_heaviest(self) -> tuple[Job, int] | None:
        """The newest question of the user with the most waiting, and how many those are."""
        if not self.waiting:
            return None
        longest = max(self.waiting.values(), key=len)
        return next(reversed(longest)), len(longest)

    def _next_user(self) -> str | None:
        while self._order:
            service, _, user = self._order[0]
            if user not in self.waiting:
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
        if len(self._service) > _COUNTERS_KEPT + 2 * len(self.waiting):
            self._service = {
                user: service
                for user, service in self._service.items()
                if service > self._floor or user in self.waiting
            }
