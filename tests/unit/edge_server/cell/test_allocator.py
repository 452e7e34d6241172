"""The allocator: who has what of a cell while devices come, go and move, and a solver that misbehaves."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from edge_server.cell import BackendRegistry, Cell, CellConfig, Session
from edge_server.cell.allocation import (
    Allocation,
    Joint,
    LossFit,
    Policy,
    Problem,
    SolverError,
    make_policy,
)
from edge_server.cell.allocator import Allocator
from edge_server.cell.elsewhere import Away, Elsewhere, Reckonable, Share
from edge_server.cell.sent import SentBlock, count_sent
from edge_server.cell.session import SILENT_AFTER_S
from edge_server.engine import AnswerStream, Priority, Request
from tests.clock import FakeClock
from tests.waiting import turns, until

LOSS = {
    "visual+audio": LossFit(a=0.05, b=0.3, p=1.2, c=0.02, d=0.9),
    "audio": LossFit(a=0.05, b=0.01, p=1.2, c=0.02, d=0.9),
}
BUNDLE = "ab" * 32
CONFIG = CellConfig(allocation="joint", total_bandwidth_hz=1e5, allocate_every_s=0.1, allocate_within_s=60.0)


class Counted:
    """Writes down what an allocator reports."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []
        self.devices = 0
        self.regrants = 0
        self.unkept: list[int] = []

    def allocated(self, outcome: str, seconds: float, devices: int) -> None:
        self.outcomes.append(outcome)
        self.devices = devices

    def regranted(self, count: int) -> None:
        self.regrants += count

    def deadlines_unkept(self, count: int) -> None:
        self.unkept.append(count)


class Model:
    """Implements Backend as far as grants need it."""

    bundle_hashes = (BUNDLE,)
    token_lengths = (1, 2, 4, 8, 16, 32)
    token_length: int | None = None
    symbols_per_token = 32
    knows_how_sure = False
    retry_delay_s = 0.1

    def admit(self, user: str, priority: Priority = "interactive") -> None: ...

    def submit(self, request: Request) -> AnswerStream:
        return AnswerStream(lambda: None)


class Bench:
    """A cell with an allocator, on a clock of the test's own."""

    def __init__(
        self,
        config: CellConfig = CONFIG,
        policy: Policy | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.counted = Counted()
        self.backends: BackendRegistry[Model] = BackendRegistry(Model())
        self.allocator = Allocator(
            config,
            self.backends.of,
            lambda: LOSS,
            observer=self.counted,
            policy=policy,
            clock=self.clock,
            sleep=self._rest,
            elsewhere=elsewhere,
        )
        self.cell = Cell(self.backends, config, clock=self.clock, allocator=self.allocator)
        self.rested = 0
        self.rests_s: list[float] = []

    async def _rest(self, seconds: float) -> None:
        self.rested += 1
        self.rests_s.append(seconds)
        self.clock.advance(seconds)
        await turns()

    def open(self, device_id: str, snr_db: float) -> Session:
        return self.cell.open(device_id, BUNDLE, snr_db)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with self.allocator.running(self.cell.open_sessions):
            yield

    async def until_shared_out(self, times: int) -> None:
        await until(lambda: len(self.counted.outcomes) >= times)
        await turns(5)


def held_hz(*sessions: Session) -> float:
    return sum(session.grant.bandwidth_hz for session in sessions)


class Others:
    """Implements Elsewhere: another door decides; of what it is told, the first is a fault."""

    decides = False
    sessions: tuple[Away, ...] = ()
    devices = 0

    def __init__(self) -> None:
        self.told: dict[str, Share] = {}
        self.heard: list[set[str]] = []

    async def tell(self, sessions: Sequence[Reckonable]) -> None:
        self.heard.append({session.session_id for session in sessions})
        if len(self.heard) == 1:
            raise RuntimeError("what nobody foresaw")

    async def give(self, shares: Mapping[str, Share]) -> None: ...


class Obedient:
    """A policy that waits until it may, and then fails if it is to."""

    name = "obedient"

    def __init__(self) -> None:
        self.may = threading.Event()
        self.calls = 0
        self.error: Exception | None = None

    def allocate(self, problem: Problem) -> Allocation:
        self.calls += 1
        assert self.may.wait(60.0)
        if self.error is not None:
            raise self.error
        return make_policy("equal").allocate(problem)


async def test_a_cell_is_shared_out_among_those_who_are_in_it() -> None:
    bench = Bench()
    async with bench.running():
        near, far = bench.open("near", 20.0), bench.open("far", -8.0)
        await bench.until_shared_out(1)
        assert held_hz(near, far) == pytest.approx(1e5, rel=1e-3)
        assert bench.counted.outcomes[0] == "solved"
        # Nobody sends louder than allowed: 0 dB over 1 MHz, of whatever bandwidth is granted.
        for session in (near, far):
            power = 10.0 ** (session.grant.tx_power_db / 10.0) * session.grant.bandwidth_hz / 1e6
            assert power <= 1.0 + 1e-6
        assert near.grant.channel_uses >= near.grant.token_length * 32


async def test_whoever_comes_has_a_grant_at_once_and_the_sum_is_right_soon() -> None:
    bench = Bench()
    async with bench.running():
        first = bench.open("first", 10.0)
        assert first.grant.bandwidth_hz == 1e5
        await bench.until_shared_out(1)
        second = bench.open("second", 10.0)
        assert second.grant.bandwidth_hz == 5e4
        assert first.grant.bandwidth_hz == 1e5, "old grants hold until the new are there"
        await bench.until_shared_out(2)
        assert held_hz(first, second) == pytest.approx(1e5, rel=1e-3)
        assert first.grant.bandwidth_hz == pytest.approx(second.grant.bandwidth_hz, rel=1e-3)
        bench.cell.close(second.session_id)
        await bench.until_shared_out(3)
        assert first.grant.bandwidth_hz == pytest.approx(1e5, rel=1e-3)


async def test_a_device_that_moves_is_followed_and_one_that_trembles_is_not() -> None:
    bench = Bench()
    async with bench.running():
        mover, other = bench.open("mover", 20.0), bench.open("other", 20.0)
        await bench.until_shared_out(1)
        await until(lambda: bench.rested >= len(bench.counted.outcomes))
        before, found = mover.grant, len(bench.counted.outcomes)
        bench.open("mover", 20.9)
        await turns(50)
        assert len(bench.counted.outcomes) == found
        assert mover.grant == before, "a session that is opened again keeps its share"
        bench.open("mover", -10.0)
        await bench.until_shared_out(found + 1)
        assert mover.grant.token_length >= before.token_length
        assert mover.grant.bandwidth_hz != pytest.approx(before.bandwidth_hz, rel=0.01)
        assert held_hz(mover, other) == pytest.approx(1e5, rel=1e-3)


async def test_followers_are_told_of_what_changes_and_nobody_of_what_does_not() -> None:
    bench = Bench()
    async with bench.running():
        first = bench.open("first", 10.0)
        await bench.until_shared_out(1)
        told: list[Session] = []
        stop = bench.cell.follow(first.session_id, told.append)
        bench.open("second", 10.0)
        await until(lambda: len(told) == 1)
        assert told == [first]
        stop()
        bench.open("third", 10.0)
        await bench.until_shared_out(3)
        assert len(told) == 1
        assert bench.cell.follow("unknown", told.append)() is None


async def test_who_follows_late_is_told_what_the_device_does_not_know() -> None:
    bench = Bench()
    async with bench.running():
        first = bench.open("first", 10.0)
        bench.cell.told(first)
        told: list[Session] = []
        bench.cell.follow(first.session_id, told.append)
        assert told == [], "it knows its grant"
        bench.open("second", 10.0)
        await until(lambda: len(told) == 1)
        bench.cell.follow(first.session_id, told.append)
        assert len(told) == 2, "and now it does not"


async def test_a_solver_that_is_late_is_not_waited_for_and_not_asked_twice() -> None:
    policy = Obedient()
    bench = Bench(CellConfig(**{**vars_of(CONFIG), "allocate_within_s": 0.01}), policy)
    async with bench.running():
        first = bench.open("first", 10.0)
        await bench.until_shared_out(1)
        second = bench.open("second", 10.0)
        await bench.until_shared_out(2)
        assert bench.counted.outcomes[:2] == ["late", "late"]
        assert policy.calls == 1, "the one that is late has the thread"
        assert held_hz(first, second) == pytest.approx(1e5, rel=1e-3), "another policy decided"
        policy.may.set()
        await until(lambda: bench.allocator._solving is not None and bench.allocator._solving.done())
        bench.open("third", 10.0)
        await bench.until_shared_out(3)
        assert policy.calls == 2


async def test_a_solver_that_fails_is_replaced_and_counted() -> None:
    policy = Obedient()
    policy.may.set()
    policy.error = SolverError("out of luck")
    bench = Bench(policy=policy)
    async with bench.running():
        first = bench.open("first", 10.0)
        await bench.until_shared_out(1)
        assert bench.counted.outcomes == ["failed"]
        assert first.grant.bandwidth_hz == pytest.approx(1e5, rel=1e-3)


def longest_airtime_s(*sessions: Session) -> float:
    return max(
        each.grant.token_length * Model.symbols_per_token / each.grant.bandwidth_hz for each in sessions
    )


async def test_airtime_stays_within_its_bound_where_that_can_be() -> None:
    found = {}
    for within_s in (None, 5e-3, 1e-6):
        bench = Bench(replace(CONFIG, airtime_within_s=within_s, latency_weight=0.01))
        sessions = [bench.open(f"d{number}", snr_db) for number, snr_db in enumerate((0.0, 5.0, 20.0))]
        async with bench.running():
            await bench.until_shared_out(1)
            found[within_s] = (longest_airtime_s(*sessions), bench.counted.outcomes[0], held_hz(*sessions))
    unbound_s, outcome, _ = found[None]
    assert (outcome, unbound_s > 5e-3) == ("solved", True), "the bound changes something"
    assert found[5e-3][:2] == (pytest.approx(5e-3, rel=0.01), "solved")
    # What cannot be kept by anybody is counted as a failure, and shared out without it.
    assert found[1e-6][1] == "failed"
    assert found[1e-6][2] == pytest.approx(1e5)


def ask(session: Session, deadline_s: float, encode_s: float = 0.0) -> None:
    """As a question that tells its deadline, and what making its tokens took, is noted."""
    blocks = [SentBlock(slot, 8, 16 * 8, 16 * 8, 1.0) for slot in ("audio", "visual")]
    count_sent(session, blocks, deadline_s=deadline_s, encode_s=encode_s)


async def test_a_tight_deadline_is_kept_and_the_others_share_the_rest() -> None:
    found = {}
    for share in (0.0, 0.5):
        bench = Bench(replace(CONFIG, deadline_uplink_share=share))
        hasty, *others = [bench.open(f"d{number}", 10.0) for number in range(3)]
        # Half of it is 3 ms, of which making tokens leaves 0.7: 46 kHz at the least.
        ask(hasty, 6e-3, encode_s=2.3e-3)
        ask(others[0], 30.0, encode_s=0.1)
        await bench.allocator.share_out([hasty, *others])
        assert (bench.counted.outcomes, bench.counted.unkept) == (["solved"], [0])
        assert held_hz(hasty, *others) == pytest.approx(1e5, rel=1e-3)
        found[share] = (2.3e-3 + longest_airtime_s(hasty), hasty.grant.bandwidth_hz, held_hz(*others))
    assert found[0.0][0] > 3.2e-3, "the deadline changes something"
    assert found[0.5][0] <= 3e-3 * (1.0 + 1e-5)
    assert found[0.5][1] > found[0.0][1]
    # The rest is the others', who share it evenly: one of them has all the time that there is.
    assert found[0.5][2] == pytest.approx(1e5 - found[0.5][1], rel=1e-3)
    assert others[0].grant.bandwidth_hz == pytest.approx(others[1].grant.bandwidth_hz, rel=0.01)


async def test_deadlines_that_cannot_be_kept_are_counted_and_the_others_are_kept() -> None:
    bench = Bench()
    sessions = [bench.open(f"d{number}", 10.0) for number in range(3)]
    for session, deadline_s, encode_s in zip(sessions, (4e-4, 2e-3, 0.1), (0.0, 2e-4, 0.1), strict=True):
        ask(session, deadline_s, encode_s)
    await bench.allocator.share_out(sessions)
    # The first needs 160 kHz, the last has no time left for sending; the second needs 40.
    assert (bench.counted.outcomes, bench.counted.unkept) == (["solved"], [2])
    assert 2e-4 + longest_airtime_s(sessions[1]) <= 1e-3 * (1.0 + 1e-5)
    assert held_hz(*sessions) == pytest.approx(1e5, rel=1e-3)
    assert min(session.grant.bandwidth_hz for session in sessions) > 1e4


async def test_the_smaller_of_two_bounds_holds_for_each_device() -> None:
    bench = Bench(replace(CONFIG, airtime_within_s=5e-3, latency_weight=0.01))
    hasty, idle = bench.open("hasty", 10.0), bench.open("idle", 10.0)
    ask(hasty, 6e-3, encode_s=1e-3)
    ask(idle, 60.0, encode_s=7.0)
    await bench.allocator.share_out([hasty, idle])
    assert bench.counted.outcomes == ["solved"]
    assert 0.0 < longest_airtime_s(hasty) <= 2e-3 * (1.0 + 1e-5)
    # Making tokens is no airtime.
    assert 2e-3 < longest_airtime_s(idle) <= 5e-3 * (1.0 + 1e-5)


async def test_another_deadline_changes_shares_and_a_trembling_encoder_does_not() -> None:
    bench = Bench()
    async with bench.running():
        hasty = bench.open("hasty", 10.0)
        bench.open("other", 10.0)
        ask(hasty, 30.0, encode_s=0.1)
        await bench.until_shared_out(1)
        await until(lambda: bench.rested >= len(bench.counted.outcomes))
        found = len(bench.counted.outcomes)
        ask(hasty, 30.0, encode_s=0.2)
        bench.allocator.asked(hasty)
        await turns(50)
        assert len(bench.counted.outcomes) == found
        ask(hasty, 1e-3)
        bench.allocator.asked(hasty)
        await bench.until_shared_out(found + 1)
        assert longest_airtime_s(hasty) <= 5e-4 * (1.0 + 1e-5)


async def test_what_nobody_foresaw_leaves_the_grants_that_there_are() -> None:
    policy = Obedient()
    policy.may.set()
    policy.error = RuntimeError("a bug")
    bench = Bench(policy=policy)
    async with bench.running():
        first = bench.open("first", 10.0)
        await until(lambda: bench.rested == 1)
        assert first.grant.bandwidth_hz == 1e5
        policy.error = None
        bench.open("second", 10.0)
        await bench.until_shared_out(1)
        assert first.grant.bandwidth_hz == pytest.approx(5e4, rel=1e-3)


async def test_what_nobody_foresaw_ends_no_talk_with_other_doors_and_neither_does_it_spin() -> None:
    others = Others()
    bench = Bench(elsewhere=others)
    async with bench.running():
        session = bench.open("device", 10.0)
        others.told[session.session_id] = Share(1e3, 1.0, 4)
        await until(lambda: session.grant.bandwidth_hz == 1e3)
        assert others.heard[:2] == [{session.session_id}] * 2
        # As often as it has told, it has rested.
        assert bench.rests_s[:1] == [CONFIG.allocate_every_s]
        assert len(bench.rests_s) >= len(others.heard) - 1


async def test_a_device_that_fell_silent_has_no_share_until_it_asks_again() -> None:
    bench = Bench()
    silent, busy = bench.open("silent", 10.0), bench.open("busy", 10.0)
    await bench.allocator.share_out([silent, busy])
    bench.clock.advance(SILENT_AFTER_S + 1.0)
    bench.open("busy", 10.0)
    async with bench.running():
        await bench.until_shared_out(2)
        assert bench.counted.devices == 1
        assert busy.grant.bandwidth_hz == pytest.approx(1e5, rel=1e-3)
        silent.seen_at = bench.clock()
        bench.allocator.asked(silent)
        await bench.until_shared_out(3)
        assert bench.counted.devices == 2
        assert held_hz(silent, busy) == pytest.approx(1e5, rel=1e-3)


async def test_what_a_device_sends_decides_with_which_loss_it_is_reckoned() -> None:
    """Sound alone needs few tokens here: a device that is known to send it gets fewer."""
    bench = Bench(CellConfig(**{**vars_of(CONFIG), "reference_latency_s": 0.02}))
    session = bench.open("microphone", 10.0)
    await bench.allocator.share_out([session])
    before = session.grant.token_length
    length = before
    count_sent(session, [SentBlock("audio", length, 16 * length, 16 * length, 1.0)])
    assert session.mix == ("audio",)
    assert session.symbols_per_token == 16.0
    await bench.allocator.share_out([session])
    assert session.grant.token_length < before


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({}, ()),
        ({"channel_uses": 400}, ()),
        ({"channel_uses": 10_000, "airtime_s": 1.0}, ("channel_uses",)),
        ({"airtime_s": 0.001}, ("bandwidth",)),
        ({"channel_uses": 1, "airtime_s": 0.001}, ("unreported",)),
        ({"token_length": 32, "symbols": 512, "channel_uses": 512, "airtime_s": 1.0}, ("token_length",)),
        ({"airtime_s": float("nan")}, ("bandwidth",)),
    ],
)
async def test_what_exceeds_a_grant_is_found(change: dict[str, Any], what: tuple[str, ...]) -> None:
    bench = Bench()
    session = bench.open("camera", 10.0)
    await bench.allocator.share_out([session])
    grant = {"bandwidth_hz": 1e5, "token_length": 16, "channel_uses": 640}
    session.grant = type(session.grant)(**{**vars(session.grant), **grant})
    usual = {"slot": "visual", "token_length": 16, "symbols": 256, "channel_uses": 256, "airtime_s": 0.01}
    block = SentBlock(**{**usual, **change})
    assert count_sent(session, [block]) == what


async def test_a_question_is_held_against_the_grants_that_its_device_had_while_it_was_made_ready() -> None:
    bench = Bench()
    session = bench.open("watcher", 10.0)
    block = SentBlock("visual", 16, 256, 256, 256 / 8e4)

    def granted(bandwidth_hz: float) -> None:
        session.regrant(replace(session.grant, bandwidth_hz=bandwidth_hz, token_length=16, channel_uses=640))

    def exceeds(**made: float) -> bool:
        session.seen_at = bench.clock()
        return bool(count_sent(session, [block], **made))

    granted(8e4)
    bench.cell.told(session)
    granted(4e4)
    granted(2e4)
    assert not exceeds(), "it was idle, and told of neither"
    bench.clock.advance(10.0)
    bench.cell.told(session)
    assert not exceeds(), "the news may be on its way"
    for bandwidth_hz in (1e4, 5e3):
        bench.clock.advance(1.0)
        granted(bandwidth_hz)
        bench.cell.told(session)
    bench.clock.advance(1.0)
    assert exceeds(), "it has been told of others for seconds"
    assert exceeds(encode_s=0.5, spent_s=0.5)
    assert not exceeds(encode_s=2.5), "it was begun before"
    assert not exceeds(spent_s=2.5)


def test_without_an_allocation_nothing_is_exceeded() -> None:
    cell: Cell[Model] = Cell(BackendRegistry(Model()), CellConfig())
    session = cell.open("camera", BUNDLE, 10.0)
    assert count_sent(session, [SentBlock("visual", 32, 512, 5, 0.0)]) == ()
    assert count_sent(session, []) == ()


async def test_a_session_whose_model_is_gone_takes_no_part() -> None:
    bench = Bench()
    session, other = bench.open("late", 10.0), bench.open("other", 10.0)
    session.bundle_hash = "gone"
    async with bench.running():
        await bench.until_shared_out(1)
        assert bench.counted.devices == 1
        assert other.grant.bandwidth_hz == pytest.approx(1e5, rel=1e-3)


def vars_of(config: CellConfig) -> dict[str, Any]:
    """A config's fields, to make another of."""
    return dict(vars(config))


class Slow:
    """A policy that takes its time, by the test's clock."""

    name = "slow"

    def __init__(self) -> None:
        self.takes: Callable[[], None] = lambda: None
        self._does = make_policy("equal")

    def allocate(self, problem: Problem) -> Allocation:
        self.takes()
        return self._does.allocate(problem)


async def test_what_takes_long_to_find_is_found_less_often() -> None:
    policy = Slow()
    bench = Bench(policy=policy)
    async with bench.running():
        bench.open("quick", 10.0)
        await bench.until_shared_out(1)
        policy.takes = lambda: bench.clock.advance(2.0)
        bench.open("another", 0.0)
        await bench.until_shared_out(2)
        await until(lambda: len(bench.rests_s) >= 2)
    assert bench.rests_s[:2] == [CONFIG.allocate_every_s, pytest.approx(38.0)]


class Searching(Joint):
    """A joint allocation whose search takes its time, by the test's clock; what is quick takes none."""

    def __init__(self, takes: Callable[[], None]) -> None:
        super().__init__(60.0)
        self._takes = takes

    def allocate(self, problem: Problem) -> Allocation:
        self._takes()
        return super().allocate(problem)


async def test_who_moves_before_there_is_time_for_a_search_is_followed_without_one_first() -> None:
    bench: Bench
    policy = Searching(lambda: bench.clock.advance(0.004))
    bench = Bench(policy=policy)
    near, far = bench.open("near", 20.0), bench.open("far", 10.0)
    moved = False

    async def rest(seconds: float) -> None:
        # The device moves while nothing is to be found anew.
        nonlocal moved
        if not moved:
            moved = True
            bench.cell.open("near", BUNDLE, 0.0)
        await bench._rest(seconds)

    bench.allocator._sleep = rest
    async with bench.running():
        await bench.until_shared_out(3)
    assert bench.counted.outcomes[:3] == ["solved", "quick", "solved"]
    assert held_hz(near, far) == pytest.approx(1e5, rel=1e-3)
    assert bench.rests_s[:2] == [CONFIG.allocate_every_s] * 2


async def test_a_whole_search_has_half_of_the_time_that_there_is() -> None:
    bench: Bench
    policy = Searching(lambda: bench.clock.advance(2.0))
    bench = Bench(policy=policy)
    bench.open("one", 20.0)
    async with bench.running():
        await bench.until_shared_out(1)
        bench.clock.advance(77.0 - CONFIG.allocate_every_s)  # 2 s are 2.5 % of 80 s
        bench.open("two", 10.0)
        await bench.until_shared_out(2)
        bench.clock.advance(1.1)
        bench.open("three", 0.0)
        await bench.until_shared_out(3)
    assert bench.counted.outcomes[:3] == ["solved", "quick", "solved"]
