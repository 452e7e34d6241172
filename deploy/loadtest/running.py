"""Runs a profile: all users connect at once, then its phases one after the other."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from deploy.loadtest.generator import Manners, closed_loop, connect, open_loop
from deploy.loadtest.measurement import Latencies, Measurement, together
from deploy.loadtest.profile import Phase, Profile
from deploy.loadtest.target import Connection, Target
from deploy.loadtest.thresholds import broken
from deploy.loadtest.users import Users

ALL = "all"

Watch: TypeAlias = Callable[[Phase, Sequence[Measurement]], AbstractAsyncContextManager[None]]
"""Follows a phase while it runs: reads its groups' measurements."""


def unwatched(phase: Phase, measurements: Sequence[Measurement]) -> AbstractAsyncContextManager[None]:
    """Follows nothing."""
    return nullcontext()


@dataclass
class PhaseResult:
    """What a phase counted.

    Attributes:
        phase: as in the profile.
        measurements: by group, and ``all`` together.
        broken: its thresholds that do not hold, in words.
    """

    phase: Phase
    measurements: Mapping[str, Measurement]
    broken: list[str]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "phase": self.phase.model_dump(),
            "measurements": {name: each.to_json() for name, each in self.measurements.items()},
            "broken": self.broken,
        }


@dataclass
class Report:
    """What a whole profile counted.

    Attributes:
        profile: that was run.
        connected: how long opening took, per user.
        capacity_hz: answers per second that a phase measured; None if none did [Hz].
        phases: in order.
        broken: thresholds that do not hold, of all phases and of connecting.
    """

    profile: Profile
    connected: Latencies
    capacity_hz: float | None = None
    phases: list[PhaseResult] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "profile": self.profile.model_dump(exclude={"phases"}),
            "connected": self.connected.to_json(),
            "capacity_hz": self.capacity_hz,
            "phases": [result.to_json() for result in self.phases],
            "broken": self.broken,
        }


async def run(
    profile: Profile, target: Target, users: Sequence[Users], *, rng: random.Random, watch: Watch = unwatched
) -> Report:
    """Run a profile.

    Args:
        profile: what to do.
        target: who is asked.
        users: of each of the profile's groups, in its order.
        rng: arrival times.
        watch: follows each phase.

    Raises:
        Refused, Failed: a user cannot connect.
    """
    numbers = [number for group in users for number in group.numbers]
    async with held(target, numbers) as (connections, connected):
        report = Report(profile, connected)
        limit_s = profile.max_connect_p99_s
        if limit_s is not None and connected.at(99) > limit_s:
            report.broken.append(f"connecting: p99 is {connected.at(99):.3g} s, at most {limit_s:g} s")
        for phase in profile.phases:
            measurements = [Measurement(phase.mode, len(each.numbers), phase.seconds) for each in users]
            async with watch(phase, measurements):
                await _run_phase(phase, connections, users, measurements, report.capacity_hz, rng)
            by_name = {each.group.name: m for each, m in zip(users, measurements, strict=True)}
            by_name[ALL] = together(measurements)
            if phase.measures_capacity:
                report.capacity_hz = by_name[ALL].answered_hz
            result = PhaseResult(phase, by_name, broken(phase, by_name, report.capacity_hz))
            report.phases.append(result)
            report.broken += result.broken
    return report


async def _run_phase(
    phase: Phase,
    target: Target,
    users: Sequence[Users],
    measurements: Sequence[Measurement],
    capacity_hz: float | None,
    rng: random.Random,
) -> None:
    manners = Manners(phase.patience_s, phase.obeys)
    rate_hz = phase.rate_hz or 0.0
    if phase.rate_of_capacity is not None:
        rate_hz = phase.rate_of_capacity * (capacity_hz or 0.0)
    shares = [each.group.share or float(each.group.count) for each in users]
    async with asyncio.TaskGroup() as tasks:
        for each, share, counted in zip(users, shares, measurements, strict=True):
            if phase.mode == "closed":
                asking = closed_loop(
                    target,
                    each.numbers,
                    each.draw,
                    phase.seconds,
                    think_s=each.think_s,
                    in_flight=each.group.in_flight,
                    ramp_s=phase.ramp_s,
                    manners=manners,
                    measurement=counted,
                )
            else:
                asking = open_loop(
                    target,
                    each.numbers,
                    each.draw,
                    rate_hz * share / sum(shares),
                    phase.seconds,
                    rng=random.Random(rng.random()),  # noqa: S311 - arrivals, no secrets
                    ramp_s=phase.ramp_s,
                    most_outstanding=max(round(phase.most_outstanding * share / sum(shares)), 1),
                    manners=manners,
                    measurement=counted,
                )
            tasks.create_task(asking)


class Held:
    """A target whose connections were opened before, and stay open until all runs are over."""

    def __init__(self, connections: Mapping[int, Connection]) -> None:
        self._connections = connections

    async def connect(self, user: int) -> Connection:
        """The open one."""
        return _Lent(self._connections[user])


class _Lent:
    def __init__(self, connection: Connection) -> None:
        self.ask = connection.ask

    async def close(self) -> None:
        """It stays open for the next run."""


@asynccontextmanager
async def held(target: Target, users: Sequence[int]) -> AsyncIterator[tuple[Held, Latencies]]:
    """Connect users, all at once.

    Yields:
        The connections, and how long each took.

    Raises:
        Refused, Failed: one of them cannot connect.
    """
    took = Latencies()
    connections: dict[int, Connection] = {}
    began_s = time.perf_counter()

    async def enter(user: int) -> None:
        connections[user] = await connect(target, user)
        took.record(time.perf_counter() - began_s)

    try:
        done = await asyncio.gather(*map(enter, users), return_exceptions=True)
        faults = [fault for fault in done if fault is not None]
        if faults:
            raise faults[0]
        yield Held(connections), took
    finally:
        await asyncio.gather(*(connection.close() for connection in connections.values()))
