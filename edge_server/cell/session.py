"""Admitted devices."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edge_server.cell.grant import Grant
from edge_server.cell.ledger import AnswerLedger
from edge_server.cell.peer import Peer
from edge_server.errors import AdmissionRefusedError, PermissionDeniedError, SessionNotFoundError


@dataclass
class Session:
    """An admitted device.

    Attributes:
        session_id: names it on every frame; not guessable.
        device_id: what the device calls itself.
        grant: what it may send.
        expires_at: when that ends, on the cell's clock [s].
        ledger: its questions.
        owner: name of the peer that opened it; None where nobody had to show who they are.
    """

    session_id: str
    device_id: str
    grant: Grant
    expires_at: float
    ledger: AnswerLedger
    owner: str | None = None


class Sessions:
    """The open sessions, by id and by device. Grants last equally long, so the oldest expires first.

    Args:
        max_sessions: bound.
        clock: monotonic seconds.
        new_id: makes ids that cannot be guessed.
    """

    def __init__(self, max_sessions: int, clock: Callable[[], float], new_id: Callable[[], str]) -> None:
        self._max_sessions = max_sessions
        self._clock = clock
        self._new_id = new_id
        self._by_id: OrderedDict[str, Session] = OrderedDict()
        self._by_device: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._by_id.values())

    def open(
        self,
        device_id: str,
        grant: Grant,
        new_ledger: Callable[[], AnswerLedger],
        peer: Peer | None = None,
    ) -> Session:
        """Admit a device, or renew its grant: it keeps its session, and with it its answers.

        Raises:
            AdmissionRefusedError: too many sessions are open.
        """
        self.expire()
        expires_at = self._clock() + grant.valid_s
        session = self._by_device.get(device_id)
        if session is not None:
            session.grant = grant
            session.expires_at = expires_at
            self._by_id.move_to_end(session.session_id)
            return session
        if len(self._by_id) >= self._max_sessions:
            until_first_expires = next(iter(self._by_id.values())).expires_at - self._clock()
            raise AdmissionRefusedError(
                f"{len(self._by_id)} sessions are open, at most {self._max_sessions} may",
                reason="sessions",
                # Devices close their sessions long before these expire: worth asking again soon.
                retry_delay_s=min(max(until_first_expires, 0.1), 5.0),
            )
        owner = peer.name if peer is not None else None
        session = Session(self._new_id(), device_id, grant, expires_at, new_ledger(), owner)
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
        if session.owner != (peer.name if peer is not None else None):
            raise PermissionDeniedError(
                "session_id", "this session was opened by another device", reason="foreign_session"
            )
        return session

    def remove(self, session_id: str) -> Session | None:
        """End a session; None if there is none."""
        session = self._by_id.pop(session_id, None)
        if session is not None:
            del self._by_device[session.device_id]
        return session

    def expire(self) -> None:
        """Remove the sessions whose grant has ended. Their questions in flight are still answered."""
        now = self._clock()
        while self._by_id:
            session = next(iter(self._by_id.values()))
            if session.expires_at > now:
                break
            self.remove(session.session_id)
