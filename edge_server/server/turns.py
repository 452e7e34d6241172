"""Whose file is decoded next: users in turn, and a place that nobody gets as a second or third one.

take ──▶ a place is free for this user? ──▶ taken
             │ no                              │ give
             └─▶ waits, in a line of its own   ▼
                 lines in turn ◀───────── a place is free
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque


class Turns:
    """Shares out places. Used by one event loop.

    Args:
        places: that one user may have; there is one more, for a user that has none.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._taken: dict[str, int] = {}
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    async def take(self, user: str) -> None:
        """Wait for a place. Who is cancelled meanwhile has none."""
        if user not in self._lines and self._is_free_for(user):
            self._taken[user] = self._taken.get(user, 0) + 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(user, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(user)
            else:
                self._leave(user, turn)
            raise

    def give(self, user: str) -> None:
        """The place is free again."""
        left = self._taken[user] - 1
        if left:
            self._taken[user] = left
        else:
            del self._taken[user]
        self._call_next()

    def _is_free_for(self, user: str) -> bool:
        taken = sum(self._taken.values())
        return taken < self._places or (taken == self._places and user not in self._taken)

    def _call_next(self) -> None:
        for user in list(self._lines):
            if self._is_free_for(user):
                turn = self._lines[user].popleft()
                if self._lines[user]:
                    self._lines.move_to_end(user)
                else:
                    del self._lines[user]
                self._taken[user] = self._taken.get(user, 0) + 1
                turn.set_result(None)

    def _leave(self, user: str, turn: asyncio.Future[None]) -> None:
        line = self._lines[user]
        line.remove(turn)
        if not line:
            del self._lines[user]
