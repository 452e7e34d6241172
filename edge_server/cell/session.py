"""Admitted devices: their sessions, by id and by device, until their grants end.

Held by the cell. The page and the metrics read a :class:`DeviceStatus` of each.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from edge_server.cell.accounts import Accounts
from edge_server.cell.grant import Grant
from edge_server.cell.idempotency import IdempotencyCache
from edge_server.cell.peer import Peer
from edge_server.errors import AdmissionRefusedError, PermissionDeniedError, SessionNotFoundError

DeviceState: TypeAlias = Literal["asking", "idle", "silent"]
"""``asking``: questions of it are in flight; ``silent``: nothing was heard of it for a while."""

SILENT_AFTER_S = 60.0
_RETRY_S = 5.0
#: Grants of one device that are remembered.
_TOLD = 32


@dataclass
class Session:
    """An admitted device.

    Attributes:
        session_id: names it on every frame; not guessable.
        device_id: what the device calls itself.
        grant: what it may send.
        expires_at: when that ends, on the cell's clock [s].
        answered: its questions, those of its earlier sessions too.
        snr_db: what the device reported last [dB].
        seen_at: when it was heard of last, on the cell's clock [s].
        owner: the peer that opened it; None where nobody had to show who they are.
        question_bytes: what its last question took on the wire; 0 before the first.
        bundle_hash: of the bundle that the device ran when it last opened it.
        mix: slots of the media that its last question brought; empty before the first.
        symbols_per_token: complex symbols that it took per unit of token length; 0 before the first.
        deadline_s: within which its answer was wanted, from when it was asked [s]; 0: it was not told.
        encode_s: what making its tokens took [s]; 0: it was not told.
        told: grants that the device was told of, and when on the cell's clock [s]; the last one last.
        followers: are called when the grant changes.
    """

    session_id: str
    device_id: str
    grant: Grant
    expires_at: float
    answered: IdempotencyCache
    snr_db: float
    seen_at: float
    owner: Peer | None = None
    question_bytes: int = 0
    bundle_hash: str = ""
    mix: tuple[str, ...] = ()
    symbols_per_token: float = 0.0
    deadline_s: float = 0.0
    encode_s: float = 0.0
    told: deque[tuple[float, Grant]] = field(default_factory=lambda: deque(maxlen=_TOLD))
    followers: list[Callable[[], None]] = field(default_factory=list)

    def regrant(self, grant: Grant) -> None:
        """Another grant from now on; whoever follows is told."""
        self.grant = grant
        for told in tuple(self.followers):
            told()

    def was_told(self, now: float) -> None:
        """The device is told of its present grant, at a time on the cell's clock [s]."""
        self.told.append((now, self.grant))

    @property
    def told_grant(self) -> Grant | None:
        """The last grant that the device was told of; None: none yet."""
        return self.told[-1][1] if self.told else None

    def grants_since(self, since: float) -> list[Grant]:
        """The grants that the device may have gone by, from a time on the cell's clock on [s].

        That is what it was told from then on, what it had been told last before, and what before that: news
        take time on their way. What it was never told of it cannot go by.
        """
        told = [grant for _, grant in self.told]
        before = sum(at < since for at, _ in self.told)
        return told[max(before - 2, 0) :] or [self.grant]


@dataclass(frozen=True)
class DeviceStatus:
    """What is known of an admitted device, for whoever watches the cell. Its session id stays secret.

    Attributes:
        device_id: what the device calls itself.
        state: what it is doing.
        snr_db: what it reported last [dB].
        grant: what it may send.
        in_flight: its questions whose end has not come.
        question_bytes: what its last question took on the wire; 0 before the first.
        silent_s: since it was heard of last [s].
    """

    device_id: str
    state: DeviceState
    snr_db: float
    grant: Grant
    in_flight: int
    question_bytes: int
    silent_s: float


def status_of(session: Session, now: float) -> DeviceStatus:
    """What is known of a session's device at a time on the cell's clock [s]."""
    silent_s = max(now - session.seen_at, 0.0)
    in_flight = session.answered.in_flight
    state: DeviceState = "asking" if in_flight else "idle" if silent_s < SILENT_AFTER_S else "silent"
    return DeviceStatus(
        session.device_id, state, session.snr_db, session.grant, in_flight, session.question_bytes, silent_s
    )


class Sessions:
    """The open sessions, by id and by device. Grants last equally long, so the oldest expires first.

    Args:
        max_sessions: bound.
        max_of_one: on those of one peer; nobody's are not counted.
        clock: monotonic seconds.
        new_id: makes ids that cannot be guessed.
        accounts: where those of one peer are counted.
    """

    def __init__(
        self,
        max_sessions: int,
        max_of_one: int,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        accounts: Accounts,
    ) -> None:
        self._max_sessions = max_sessions
        self._max_of_one = max_of_one
        self._accounts = accounts
        self._clock = clock
        self._new_id = new_id
        self._by_id: OrderedDict[str, Session] = OrderedDict()
        self._by_device: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._by_id.values())

    def knows(self, device_id: str) -> bool:
        """Whether this device has a session."""
        self.expire()
        return device_id in self._by_device

    def open(
        self,
        device_id: str,
        snr_db: float,
        grant: Grant,
        new_ledger: Callable[[], IdempotencyCache],
        peer: Peer | None = None,
    ) -> Session:
        """Admit a device, or renew its grant: it keeps its session, and with it its answers.

        Raises:
            AdmissionRefusedError: too many sessions are open.
        """
        self.expire()
        now = self._clock()
        expires_at = now + grant.valid_s
        session = self._by_device.get(device_id)
        if session is not None:
            session.grant, session.snr_db = grant, snr_db
            session.expires_at, session.seen_at = expires_at, now
            if _name(session.owner) == _name(peer):
                session.owner = peer  # the device may have a new certificate by now
            self._by_id.move_to_end(session.session_id)
            return session
        if len(self._by_id) >= self._max_sessions:
            until_first_expires = next(iter(self._by_id.values())).expires_at - now
            raise AdmissionRefusedError(
                f"{len(self._by_id)} sessions are open, at most {self._max_sessions} may",
                reason="sessions",
                # Devices close their sessions long before these expire: worth asking again soon.
                retry_delay_s=min(max(until_first_expires, 0.1), _RETRY_S),
            )
        if peer is not None:
            with self._accounts.of(peer.name) as account:
                if account.all_sessions >= self._max_of_one:
                    raise AdmissionRefusedError(
                        f"{peer.name} has {account.all_sessions} sessions open, at most {self._max_of_one} "
                        "may be",
                        reason="sessions_of_one",
                        retry_delay_s=_RETRY_S,
                    )
                account.sessions += 1
        session = Session(self._new_id(), device_id, grant, expires_at, new_ledger(), snr_db, now, peer)
        self._by_id[session.session_id] = session
        self._by_device[device_id] = session
        return session

    def get(self, session_id: str, peer: Peer | None = None) -> Session:
        """An open session, for whoever opened it.

        Raises:
            SessionNotFoundError: it is unknown, closed or expired.
            PermissionDeniedError: somebody else opened it.
        """
        session = self._by_id.get(session_id)
        if session is None:
            raise SessionNotFoundError(session_id)
        if session.expires_at <= self._clock():
            self.remove(session_id)
            raise SessionNotFoundError(session_id)
        if _name(session.owner) != _name(peer):
            raise PermissionDeniedError(
                "session_id", "this session was opened by another device", reason="foreign_session"
            )
        return session

    def find(self, session_id: str) -> Session | None:
        """A session, expired or not; None if there is no such session."""
        return self._by_id.get(session_id)

    def device_of(self, session_id: str) -> str | None:
        """What a session's device calls itself, expired or not; None if there is no such session."""
        session = self._by_id.get(session_id)
        return None if session is None else session.device_id

    def remove(self, session_id: str) -> Session | None:
        """End a session; None if there is none."""
        session = self._by_id.pop(session_id, None)
        if session is not None:
            del self._by_device[session.device_id]
            if session.owner is not None:
                with self._accounts.of(session.owner.name) as account:
                    account.sessions -= 1
        return session

    def owners(self) -> set[Peer]:
        """Who has sessions."""
        return {session.owner for session in self._by_id.values() if session.owner is not None}

    def of(self, owners: Collection[Peer]) -> list[Session]:
        """The sessions of these."""
        return [session for session in self._by_id.values() if session.owner in owners]

    def expire(self) -> None:
        """Remove the sessions whose grant has ended. Their questions in flight are still answered."""
        now = self._clock()
        while self._by_id:
            session = next(iter(self._by_id.values()))
            if session.expires_at > now:
                break
            self.remove(session.session_id)


def _name(peer: Peer | None) -> str | None:
    return None if peer is None else peer.name
