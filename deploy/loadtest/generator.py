"""Asks questions: each user when the last answer came (closed loop), or at a rate of their own (open loop).

Closed:  user: ask ─▶ answer ─▶ think ─▶ ask ...            load follows the server
Open:    Poisson arrivals ─▶ a free user asks               load does not care how the server is

Latency counts from the moment at which a question was *meant* to be sent. A generator that waits for a slow
server before it sends the next question would otherwise leave out exactly the waiting that it is to measure
(coordinated omission; Gil Tene, "How NOT to Measure Latency").

A user obeys: one that is turned away asks nothing more until the server's delay is over, then asks again.
That is what ``Retry-After`` means (RFC 9110, section 10.2.3). What it would have asked meanwhile waits with
it, or is held back and counted.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from deploy.loadtest.measurement import Measurement, RequestFate
from deploy.loadtest.target import EXPIRED, Connection, Draw, Failed, Refused, Target

THINK_NOT: Callable[[int], float] = lambda user: 0.0  # noqa: E731 - a default, named for its readers
_NO_DELAY_GIVEN_S = 1.0
"""What a user waits that was turned away without being told how long."""
_LONGEST_SLEEP_S = 0.05
_FULL_S = 0.001
"""How long it is not looked again whether one of too many questions has ended: looking takes time as well."""
_CONNECTED_WITHIN_S = 120.0
_LONGEST_ANSWER_S = 300.0
"""After which a question that has not ended is given up, where it has no deadline."""
_LATE_S = 10.0
"""How long after its deadline a question may end; after that nothing is to be expected."""
NO_END = "no_end"
"""The fault of a question that never ended."""


@dataclass(frozen=True)
class Manners:
    """How users behave towards a server that refuses.

    Attributes:
        patience_s: a question waits, or is tried again, as long as its wait would end within so long of the
            moment at which it was meant to be sent; 0: the first refusal ends it [s].
        obeys: whether a user that was turned away asks nothing until the delay is over.
    """

    patience_s: float = 30.0
    obeys: bool = True


async def closed_loop(
    target: Target,
    users: Sequence[int],
    questions: Draw,
    seconds: float,
    *,
    think_s: Callable[[int], float] = THINK_NOT,
    in_flight: int = 1,
    ramp_s: float = 0.0,
    manners: Manners | None = None,
    measurement: Measurement | None = None,
) -> Measurement:
    """Every user asks as soon as the last answer has come and has been thought about.

    Args:
        target: who is asked.
        users: numbers of the users.
        questions: what they ask.
        seconds: for how long questions are begun; those on their way are waited for [s].
        think_s: how long a user thinks before the next question [s].
        in_flight: questions that a user has on the way at once.
        ramp_s: within which users begin, one after the other [s].
        manners: towards a server that refuses.
        measurement: to count in, for whoever wants to read along.

    Raises:
        Refused, Failed: a user cannot connect.
    """
    counted = measurement or Measurement("closed", len(users), seconds)
    connections = await _connect(target, users)
    run = _Run(counted, manners or Manners(), time.perf_counter() + seconds)

    async def go_on_asking(user: int, place: int) -> None:
        await asyncio.sleep(ramp_s * place / max(len(users), 1))
        while time.perf_counter() < run.end_s:
            counted.offered += 1
            await run.ask(connections[user], user, questions, time.perf_counter())
            pause_s = max(think_s(user), run.quiet_s(user))
            if pause_s > 0.0:
                await asyncio.sleep(min(pause_s, max(run.end_s - time.perf_counter(), 0.0)))

    try:
        async with asyncio.TaskGroup() as tasks:
            for place, user in enumerate(users):
                for _ in range(in_flight):
                    tasks.create_task(go_on_asking(user, place))
    finally:
        await _close(connections)
    return counted


async def open_loop(
    target: Target,
    users: Sequence[int],
    questions: Draw,
    rate_hz: float,
    seconds: float,
    *,
    rng: random.Random,
    ramp_s: float = 0.0,
    most_outstanding: int = 4096,
    manners: Manners | None = None,
    measurement: Measurement | None = None,
) -> Measurement:
    """Questions arrive as a Poisson process, whatever the server does with them.

    Args:
        target: who is asked.
        users: numbers of the users; they take turns.
        questions: what they ask.
        rate_hz: questions per second, of all users together.
        seconds: for how long questions arrive; those on their way are waited for [s].
        rng: arrival times.
        ramp_s: within which the rate grows from nothing [s].
        most_outstanding: questions that arrive while so many are on their way are dropped, and counted.
        manners: towards a server that refuses.
        measurement: to count in, for whoever wants to read along.

    Raises:
        Refused, Failed: a user cannot connect.
    """
    counted = measurement or Measurement("open", len(users), seconds)
    connections = await _connect(target, users)
    begin_s = time.perf_counter()
    run = _Run(counted, manners or Manners(), begin_s + seconds)
    outstanding: set[asyncio.Task[None]] = set()
    due_s, turn, full_until_s = begin_s, 0, begin_s
    try:
        while True:
            due_s += rng.expovariate(rate_hz)
            if due_s >= run.end_s:
                break
            # A Poisson process whose rate grows is a constant one, thinned.
            if ramp_s > 0.0 and rng.random() * ramp_s > due_s - begin_s:
                continue
            user, turn = users[turn % len(users)], turn + 1
            # A silence only grows: whoever keeps it beyond that time needs not be waited for to be counted.
            if run.holds_back(user, due_s, due_s):
                counted.offered += 1
                if turn % 64 == 0:
                    await asyncio.sleep(0)
                continue
            if due_s < full_until_s:
                counted.offered += 1
                counted.dropped += 1
                continue
            while (early_s := due_s - time.perf_counter()) > 0.0:
                await asyncio.sleep(min(early_s, _LONGEST_SLEEP_S))
            counted.offered += 1
            if len(outstanding) >= most_outstanding:
                counted.dropped += 1
                full_until_s = time.perf_counter() + _FULL_S
                # Whoever is late all the time would otherwise never let an answer in.
                await asyncio.sleep(0)
                continue
            if run.holds_back(user, due_s, time.perf_counter()):
                continue
            task = asyncio.create_task(run.ask(connections[user], user, questions, due_s))
            outstanding.add(task)
            task.add_done_callback(outstanding.discard)
            if turn % 8 == 0:
                await asyncio.sleep(0)
        if outstanding:
            await asyncio.gather(*outstanding)
    finally:
        for task in outstanding:
            task.cancel()
        await _close(connections)
    return counted


class _Run:
    """Questions of one run, each counted once at its end."""

    def __init__(self, counted: Measurement, manners: Manners, end_s: float) -> None:
        self._counted = counted
        self._manners = manners
        self._quiet_until_s: dict[int, float] = {}
        self.end_s = end_s

    def quiet_s(self, user: int) -> float:
        """How long a user that obeys asks nothing from now on [s]."""
        if not self._manners.obeys:
            return 0.0
        return max(self._quiet_until_s.get(user, 0.0) - time.perf_counter(), 0.0)

    def holds_back(self, user: int, due_s: float, now_s: float) -> bool:
        """Whether a question is not even sent, as its user's patience ends before its silence; counted."""
        quiet_until_s = self._quiet_until_s.get(user, 0.0) if self._manners.obeys else 0.0
        if quiet_until_s <= max(now_s, due_s + self._manners.patience_s):
            return False
        self._counted.held_back += 1
        return True

    async def ask(self, connection: Connection, user: int, questions: Draw, due_s: float) -> None:
        """Ask one question to its end."""
        while (quiet_s := self.quiet_s(user)) > 0.0:
            # Others of this user may have been turned away again meanwhile.
            if self.holds_back(user, due_s, time.perf_counter()):
                return
            await asyncio.sleep(quiet_s)
        counted = self._counted
        question = questions(user)
        counted.sent += 1
        counted.lag.record(time.perf_counter() - due_s)
        outcome: RequestFate = "refused"
        longest_s = question.deadline_s + _LATE_S if question.deadline_s else _LONGEST_ANSWER_S
        while True:
            try:
                async with asyncio.timeout(longest_s):
                    await connection.ask(question)
            except Refused as refused:
                counted.refusals += 1
                if refused.retry_delay_s <= 0.0:
                    counted.refusals_without_delay += 1
                again_s = time.perf_counter() + (refused.retry_delay_s or _NO_DELAY_GIVEN_S)
                self._quiet_until_s[user] = max(again_s, self._quiet_until_s.get(user, 0.0))
                if again_s <= due_s + self._manners.patience_s:
                    await asyncio.sleep(again_s - time.perf_counter())
                    continue
            except Failed as failed:
                outcome = "expired" if failed.code == EXPIRED else "failed"
                counted.faults[failed.code] += 1
            except TimeoutError:
                outcome = "failed"
                counted.faults[NO_END] += 1
            else:
                outcome = "answered"
            break
        now_s = time.perf_counter()
        counted.outcomes[outcome] += 1
        if now_s <= self.end_s:
            counted.in_window[outcome] += 1
        if outcome == "answered":
            counted.latencies.record(now_s - due_s)


async def connect(target: Target, user: int, patience_s: float = _CONNECTED_WITHIN_S) -> Connection:
    """A connection for a user that obeys: one that may not come in yet comes back when it is told to.

    Args:
        target: who is to be asked.
        user: number of the user.
        patience_s: how long it tries [s].

    Raises:
        Refused: it was turned away for as long as that.
        Failed: it cannot be had.
    """
    give_up_s = time.perf_counter() + patience_s
    while True:
        try:
            return await target.connect(user)
        except Refused as refused:
            delay_s = refused.retry_delay_s or _NO_DELAY_GIVEN_S
            if time.perf_counter() + delay_s > give_up_s:
                raise
        await asyncio.sleep(delay_s)


async def _connect(target: Target, users: Sequence[int]) -> Mapping[int, Connection]:
    made = await asyncio.gather(*(connect(target, user) for user in users), return_exceptions=True)
    connections = {u: c for u, c in zip(users, made, strict=True) if not isinstance(c, BaseException)}
    faults = [fault for fault in made if isinstance(fault, BaseException)]
    if faults:
        await _close(connections)
        raise faults[0]
    return connections


async def _close(connections: Mapping[int, Connection]) -> None:
    await asyncio.gather(*(connection.close() for connection in connections.values()))
