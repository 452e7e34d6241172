"""Keeps a cell's allocation up to date while devices come, go and move.

    session opened, closed, at another SNR ──▶ Policy, on a thread ──▶ shares ──▶ regrant ──▶ devices
                                                └── late, or failed: a policy that needs no solver

Old grants hold until new ones are there. Powers are told relative to what Es = 1 takes at the cell's
``bandwidth_hz``, so that with P = 1 and B = bandwidth_hz a device has the SNR that it reports.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeAlias

from edge_server.cell.allocation import (
    Allocation,
    Budget,
    InfeasibleError,
    Joint,
    LossOfEach,
    LossSurface,
    Objective,
    Policy,
    Problem,
    SolverError,
    User,
    make_policy,
)
from edge_server.cell.allocation.surface_file import mix_of
from edge_server.cell.backends import Backend
from edge_server.cell.deadlines import airtime_left_s, uplink_within_s, with_deadlines
from edge_server.cell.elsewhere import Away, Elsewhere, Reckonable, Share
from edge_server.cell.grant import CellConfig, Grant
from edge_server.cell.pace import Pace
from edge_server.cell.session import SILENT_AFTER_S, Session
from edge_server.errors import BundleMismatchError

Outcome: TypeAlias = Literal["solved", "quick", "late", "failed"]
"""How an allocation came about: by the policy that was asked; without its solver, until there is time for
that again; or by another policy, as the solver was late or failed."""

FALLBACK = "proportional_fair"
"""A formula: it cannot be late."""
#: Of the time for an allocation, what a search may take; the rest is for what it began last.
_SEARCHING = 0.6
#: Times what tokens take: pilots on every other subcarrier, and a cyclic prefix.
_OVERHEAD = 2.2
#: A question that takes, or leaves, so much more or less of the radio than the last one is of another kind.
_OTHER = 0.1
#: Whether somebody has fallen silent is looked at so often [s].
_LOOK_S = SILENT_AFTER_S / 4.0
#: Where there are other doors, they are told, and heard of, so often [s].
_TELL_S = 0.5
_MIN_GAIN, _MAX_GAIN = 1e-3, 1e4

logger = logging.getLogger(__name__)


class AllocationObserver(Protocol):
    """The port through which an allocator is watched."""

    def allocated(self, outcome: Outcome, seconds: float, devices: int) -> None:
        """The cell was shared out among so many devices; it took so long [s]."""

    def regranted(self, count: int) -> None:
        """So many devices have another grant than before."""

    def deadlines_unkept(self, count: int) -> None:
        """The cell was shared out without the deadlines of so many devices, which it could not keep."""


@dataclass(frozen=True)
class _Reckoned:
    """What an allocation knew of a session."""

    snr_db: float
    mix: tuple[str, ...]
    symbols_per_token: float
    airtime_left_s: float

    @classmethod
    def of(cls, session: Reckonable, config: CellConfig) -> _Reckoned:
        left_s = airtime_left_s(session, config.deadline_uplink_share)
        return cls(session.snr_db, session.mix, session.symbols_per_token, left_s)

    def is_old(self, session: Reckonable, config: CellConfig) -> bool:
        """Whether the session has moved, sends something else, or has another time for it."""
        now = _Reckoned.of(session, config)
        return (
            abs(now.snr_db - self.snr_db) >= config.allocate_step_db
            or now.mix != self.mix
            or not math.isclose(now.symbols_per_token, self.symbols_per_token, rel_tol=_OTHER)
            or not math.isclose(now.airtime_left_s, self.airtime_left_s, rel_tol=_OTHER)
        )


class Allocator:
    """Shares of the sessions of one cell.

    Args:
        config: of the cell; its ``allocation`` is a policy.
        backend_of: the model that answers for a bundle.
        loss: measured loss per mix of modalities, of what is served now; of whoever has not asked, the first.
        observer: is told what happens.
        policy: as the settings say, unless another is given.
        clock: monotonic seconds.
        sleep: waits that many seconds.
        elsewhere: other doors of this cell, of which one shares it out; None: there are none.
    """

    def __init__(
        self,
        config: CellConfig,
        backend_of: Callable[[str], Backend],
        loss: Callable[[], Mapping[str, LossSurface]],
        *,
        observer: AllocationObserver | None = None,
        policy: Policy | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self._elsewhere = elsewhere
        self._config = config
        self._backend_of = backend_of
        self._loss = loss
        self._observer = observer
        self._policy = policy or _policy_of(config)
        self._quick = self._policy.quick if isinstance(self._policy, Joint) else None
        self._fallback = make_policy(FALLBACK)
        self._clock = clock
        self._sleep = sleep
        self._sessions: Callable[[], Iterable[Session]] = tuple
        self._shares: dict[str, Share] = {}
        self._reckoned: dict[str, _Reckoned] = {}
        #: What other doors were told of it.
        self._given: dict[str, Share] = {}
        self._wanted = asyncio.Event()
        self._solvers = ThreadPoolExecutor(1, thread_name_prefix="tokenlink-allocation")
        self._solving: Future[Allocation] | None = None
        self._pace = Pace(
            config.allocate_every_s, config.allocate_share, has_quick=self._quick is not None, clock=clock
        )

    def admit(self, session: Session) -> None:
        """A session was opened, or opened again with what its device measures now: it has its share, or one
        that will do until the cell is shared out anew."""
        share = self._shares.get(session.session_id)
        if share is None:
            share = self._shares[session.session_id] = self._provisional(session)
        session.grant = self._grant(session, share)
        self._look_at(session)

    def asked(self, session: Session) -> None:
        """A session asks something: one that had fallen silent takes part again, and what its questions are
        made of is known by now."""
        self._look_at(session)

    def _look_at(self, session: Session) -> None:
        reckoned = self._reckoned.get(session.session_id)
        if reckoned is None or reckoned.is_old(session, self._config):
            self._wanted.set()

    def left(self, session_id: str) -> None:
        """A session has ended."""
        if self._shares.pop(session_id, None) is not None:
            self._reckoned.pop(session_id, None)
            self._wanted.set()

    @contextlib.asynccontextmanager
    async def running(self, sessions: Callable[[], Iterable[Session]]) -> AsyncGenerator[None]:
        """Share the cell out among these sessions, as often as it takes, until the context ends."""
        self._sessions = sessions
        task = asyncio.create_task(self._run(), name="tokenlink-allocation")
        try:
            yield
        finally:
            # Once more, where it is lost: what talks to other doors waits by `wait_for`, which up to
            # Python 3.11 loses a cancel that comes together with an answer.
            while not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=1.0)
            self._solvers.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                within_s = _LOOK_S if self._elsewhere is None else _TELL_S
                async with asyncio.timeout(self._pace.look_within_s(within_s)):
                    await self._wanted.wait()
            asked = self._wanted.is_set()
            self._wanted.clear()
            active = self._active()
            if self._elsewhere is not None and not await self._decides(self._elsewhere, active):
                # Not with every question of a device, and often enough to be known to be there.
                await self._sleep(min(self._config.allocate_every_s, _TELL_S))
                continue
            away = self._away()
            started_s = self._clock()
            if asked or self._have_changed(active, away) or self._pace.owes_a_search:
                quick = self._pace.is_quick
                try:
                    await self.share_out(active, away, quick=quick)
                except Exception:
                    # Whatever it is, the grants that there are go on holding.
                    logger.exception("the cell was not shared out anew")
                await self._sleep(self._pace.ended(self._clock() - started_s, quick=quick))

    async def _decides(self, elsewhere: Elsewhere, active: Sequence[Session]) -> bool:
        """:meth:`_is_mine`; where that fails, grants go on holding, and it is tried again."""
        try:
            return await self._is_mine(elsewhere, active)
        except Exception:
            logger.exception("other doors of the cell were not talked to")
            self._wanted.set()
            return False

    async def _is_mine(self, elsewhere: Elsewhere, active: Sequence[Session]) -> bool:
        """Whether this door shares out the cell; where another does, tell it, and take what it told."""
        if elsewhere.decides:
            await elsewhere.give(self._given)
            return True
        await elsewhere.tell(active)
        self._reckoned = self._reckon(active)
        told, self._given = elsewhere.told, {}
        self._regrant((session, told[session.session_id]) for session in active if session.session_id in told)
        return False

    def _away(self) -> list[Away]:
        sessions = () if self._elsewhere is None else self._elsewhere.sessions
        return [session for session in sessions if self._backend(session) is not None]

    def _have_changed(self, active: Sequence[Session], away: Sequence[Away]) -> bool:
        """Whether others take part than last time, or one of another door has moved."""
        together: tuple[Reckonable, ...] = (*active, *away)
        everyone = {session.session_id for session in together}
        if self._elsewhere is not None and everyone != self._given.keys():
            return True
        return everyone != self._reckoned.keys() or any(
            self._reckoned[each.session_id].is_old(each, self._config) for each in away
        )

    def _reckon(self, sessions: Iterable[Reckonable]) -> dict[str, _Reckoned]:
        return {session.session_id: _Reckoned.of(session, self._config) for session in sessions}

    def _active(self) -> list[Session]:
        sessions = list(self._sessions())
        known = {session.session_id for session in sessions}
        for gone in self._shares.keys() - known:
            del self._shares[gone]
        heard_since = self._clock() - SILENT_AFTER_S
        heard = [session for session in sessions if session.seen_at > heard_since]
        return [session for session in heard if self._backend(session) is not None]

    async def share_out(
        self, sessions: Sequence[Session], away: Sequence[Away] = (), *, quick: bool = False
    ) -> Outcome | None:
        """Share the cell out among these sessions and those of other doors, and grant what comes of it; None:
        there are none. Quick: without the policy's solver, if it has one."""
        everyone: tuple[Reckonable, ...] = (*sessions, *away)
        self._reckoned = self._reckon(everyone)
        self._given = {}
        if not everyone:
            return None
        problem, unkept = self.problem(everyone)
        started_s = self._clock()
        allocation, outcome = await self._solve(problem, quick=quick)
        if self._observer is not None:
            self._observer.allocated(outcome, self._clock() - started_s, len(everyone))
            self._observer.deadlines_unkept(unkept)
        shares = _shares_of(allocation)
        self._regrant(zip(sessions, shares, strict=False))
        if self._elsewhere is not None:
            ids = (session.session_id for session in everyone)
            self._given = dict(zip(ids, shares, strict=True))
            await self._elsewhere.give(self._given)
        return outcome

    def problem(self, sessions: Sequence[Reckonable]) -> tuple[Problem, int]:
        """The cell as these sessions make it, and how many of their deadlines it cannot keep."""
        config, losses = self._config, self._loss()
        usual = next(iter(losses.values()))
        problem = Problem(
            users=tuple(self._user(session) for session in sessions),
            budget=Budget(
                bandwidth_hz=config.total_bandwidth_hz,
                power_w=None if config.total_power_db is None else _linear(config.total_power_db),
                user_power_w=_linear(config.max_power_db),
                noise_w_per_hz=1.0 / config.bandwidth_hz,
            ),
            loss=LossOfEach([losses.get(mix_of(session.mix), usual) for session in sessions]),
            objective=Objective(config.latency_weight, config.reference_latency_s, config.energy_price),
        )
        return with_deadlines(
            problem, [uplink_within_s(session, config.deadline_uplink_share) for session in sessions]
        )

    def _user(self, session: Reckonable) -> User:
        lengths = tuple(sorted(self._backend_of(session.bundle_hash).token_lengths))
        within_s = self._config.airtime_within_s
        return User(
            gain=min(max(_linear(session.snr_db), _MIN_GAIN), _MAX_GAIN),
            token_lengths=lengths,
            symbols_per_token=session.symbols_per_token or self._usual_symbols(session),
            # An encoder looks at all of its medium, however few tokens are made of that in the end.
            encode_s=(session.encode_s,) * len(lengths),
            deadline_s=None if within_s is None else within_s + session.encode_s,
        )

    def _backend(self, session: Reckonable) -> Backend | None:
        """What answers for a session's bundle; None for a device that slept through a change of model."""
        try:
            return self._backend_of(session.bundle_hash)
        except BundleMismatchError:
            return None

    def _usual_symbols(self, session: Reckonable) -> float:
        backend = self._backend(session)
        return 1.0 if backend is None else float(backend.symbols_per_token)

    async def _solve(self, problem: Problem, *, quick: bool) -> tuple[Allocation, Outcome]:
        if self._solving is not None and not self._solving.done():
            return self._by_formula(problem), "late"
        find = self._quick if quick and self._quick is not None else self._policy.allocate
        self._solving = self._solvers.submit(find, problem)
        asked = asyncio.wrap_future(self._solving)
        done, _ = await asyncio.wait([asked], timeout=self._config.allocate_within_s)
        if not done:
            logger.warning("the solver is late; %s decides", FALLBACK, extra={"devices": len(problem.users)})
            asked.add_done_callback(_look_at)
            return self._by_formula(problem), "late"
        try:
            found = asked.result()
        except (SolverError, InfeasibleError, ValueError, ArithmeticError) as error:
            logger.warning("the solver failed, %s decides: %s", FALLBACK, error)
            return self._by_formula(problem), "failed"
        if found.fallback:
            logger.warning("the solver failed, %s decides: %s", found.policy, found.fallback)
            return found, "failed"
        return found, "quick" if quick else "solved"

    def _by_formula(self, problem: Problem) -> Allocation:
        """What needs no solver; where nothing keeps airtime within its bound, without any bound."""
        try:
            return self._fallback.allocate(problem)
        except InfeasibleError:
            users = tuple(replace(user, deadline_s=None) for user in problem.users)
            return self._fallback.allocate(replace(problem, users=users))

    def _regrant(self, shared: Iterable[tuple[Session, Share]]) -> None:
        """Grant sessions of this door what they have of the cell."""
        changed = 0
        for session, share in shared:
            held = self._shares.get(session.session_id)
            # One that has left meanwhile has none.
            if held is not None and not share.is_near(held):
                self._shares[session.session_id] = share
                session.regrant(self._grant(session, share))
                changed += 1
        if changed and self._observer is not None:
            self._observer.regranted(changed)

    def _provisional(self, session: Session) -> Share:
        """An equal part of the cell, until it is shared out among those that are in it now."""
        there = 0 if self._elsewhere is None else self._elsewhere.devices
        # Those too that came since it was last shared out: a crowd that comes at once is one.
        config, count = self._config, max(len(self._shares), there) + 1
        power = _linear(config.max_power_db)
        if config.total_power_db is not None:
            power = min(power, _linear(config.total_power_db) / count)
        return Share(config.total_bandwidth_hz / count, power, session.grant.token_length)

    def _grant(self, session: Session, share: Share) -> Grant:
        symbols = max(self._usual_symbols(session) * _OVERHEAD, session.symbols_per_token)
        return replace(
            session.grant,
            bandwidth_hz=share.bandwidth_hz,
            tx_power_db=share.tx_power_db(self._config.bandwidth_hz),
            token_length=share.token_length,
            channel_uses=math.ceil(share.token_length * symbols),
        )


def _policy_of(config: CellConfig) -> Policy:
    """The policy that is set; one that searches stops while there is time to use what it found."""
    if config.allocation == Joint.name:
        return Joint(_SEARCHING * config.allocate_within_s)
    return make_policy(config.allocation)


def _shares_of(allocation: Allocation) -> list[Share]:
    rows = zip(allocation.bandwidth_K, allocation.power_K, allocation.length_K, strict=True)
    return [Share(float(bandwidth_hz), float(power), int(length)) for bandwidth_hz, power, length in rows]


def _linear(value_db: float) -> float:
    return float(10.0 ** (value_db / 10.0))


def _look_at(late: asyncio.Future[Allocation]) -> None:
    """What came too late is not used; that it failed, if it did, is known."""
    if not late.cancelled():
        late.exception()
