"""Admission: every question passes here on its way from a front door to the engine.

Questions of devices by :meth:`Cell.ask`, in a session with a grant; those that come over HTTP, which have
neither, by :meth:`Cell.admit` and :meth:`Cell.submit`. Both are admitted by one rule, with their priority.
"""

from __future__ import annotations

import contextlib
import logging
import math
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Generic, Protocol, TypeAlias
from weakref import WeakValueDictionary

from edge_server.cell.allocator import Allocator
from edge_server.cell.answers import KeptAnswers
from edge_server.cell.arrivals import Arrivals
from edge_server.cell.backends import Backend, BackendRegistry, BackendT
from edge_server.cell.grant import CellConfig, make_grant
from edge_server.cell.idempotency import IdempotencyCache, Subscription
from edge_server.cell.limits import LimitConfig, Limits
from edge_server.cell.peer import Access, Peer
from edge_server.cell.session import DeviceStatus, Session, Sessions, status_of
from edge_server.cell.token_bucket import TokenBucket
from edge_server.engine import AnswerStream, AskedAs, Priority, Request
from edge_server.errors import (
    AdmissionRefusedError,
    BundleMismatchError,
    EdgeServerError,
    InvalidQuestionError,
    OverloadedError,
    PermissionDeniedError,
    QuestionTooLargeError,
    SessionNotFoundError,
    UnauthenticatedError,
)

MAX_REQUEST_ID_CHARS = 64

# Whoever is refused may try again as fast as the network lets them: all are counted, these are logged.
_LOGGED_AT_ONCE, _LOGGED_PER_S = 20.0, 1.0

logger = logging.getLogger(__name__)

Prepare: TypeAlias = Callable[[Session], Request]
"""Decodes a question, once it is admitted, for the session that asks it."""
Run: TypeAlias = Callable[[Session, Request, Callable[[Request], AnswerStream]], AnswerStream]
"""Has a question answered for a session, through the engine's ``submit``."""


class CellObserver(Protocol):
    """The port through which a cell is watched."""

    def sessions(self, count: int) -> None:
        """Sessions that are open, after this changed."""

    def rejected(self, reason: str) -> None:
        """A session or a question was not admitted."""


class Cell(Generic[BackendT]):
    """Sessions, grants and admission in front of the engines.

    Args:
        backends: the models that may be asked.
        config: bounds.
        clock: monotonic seconds.
        new_id: makes session ids that cannot be guessed.
        observer: is told what happens.
        answers: that wait to be acknowledged; None: in memory, within the bounds of ``config``.
        access: says whether a peer's credential is still good; None: no credentials are asked for.
        limits: on what each peer may ask.
        allocator: shares the cell out among its sessions; None: all are granted the same.
    """

    def __init__(
        self,
        backends: BackendRegistry[BackendT],
        config: CellConfig | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        new_id: Callable[[], str] = lambda: secrets.token_urlsafe(18),
        observer: CellObserver | None = None,
        answers: KeptAnswers | None = None,
        access: Access | None = None,
        limits: Limits | None = None,
        allocator: Allocator | None = None,
    ) -> None:
        self.config = config or CellConfig()
        self._backends = backends
        self._clock = clock
        self._observer = observer
        self._access = access
        self._allocator = allocator
        self.limits = limits if limits is not None else Limits(LimitConfig(), clock)
        self._log_lines = TokenBucket(_LOGGED_AT_ONCE, _LOGGED_PER_S, clock())
        self._sessions = Sessions(
            self.config.max_sessions, self.config.max_sessions_of_one, clock, new_id, self.limits.accounts
        )
        self._arrivals = Arrivals(self.config.arrivals_per_s, self.config.arrivals_burst, clock)
        # Compared with None: empty ones are false, and are still those that were passed.
        if answers is None:
            answers = KeptAnswers(
                self.config.answers_kept,
                self.config.answers_kept_in_all,
                self.config.answers_kept_s,
                clock=clock,
            )
        self._answers = answers
        # A cache lives as long as its device has a session or a question that runs.
        self._idempotency: WeakValueDictionary[str, IdempotencyCache] = WeakValueDictionary()

    @property
    def sessions(self) -> int:
        """Open sessions; one that has expired counts until it is noticed."""
        return len(self._sessions)

    def sessions_with(self, backend: Backend) -> int:
        """Open sessions whose device runs a bundle that this backend, and no newer one, answers for."""
        self._sessions.expire()
        served = [name for name in backend.bundle_hashes if self._backends.of(name) is backend]
        return sum(session.bundle_hash in served for session in self._sessions)

    def open_sessions(self) -> tuple[Session, ...]:
        """The sessions whose grants have not ended."""
        self._sessions.expire()
        return tuple(self._sessions)

    def follow(self, session_id: str, told: Callable[[Session], None]) -> Callable[[], None]:
        """Be told whenever a session's grant changes; at once, if its device does not know this one.

        Args:
            session_id: of an open session; else nothing will be told.
            told: called on the event loop.

        Returns:
            To be called when nobody is to be told any more.
        """
        session = self._sessions.find(session_id)
        if session is None:
            return lambda: None
        follower = partial(told, session)
        session.followers.append(follower)
        if session.told_grant is not None and session.told_grant != session.grant:
            follower()
        return partial(session.followers.remove, follower)

    def told(self, session: Session) -> None:
        """A session's device is being told of its present grant."""
        session.was_told(self._clock())

    def valid_s(self, session: Session) -> float:
        """For how long a session's grant still holds [s]."""
        return max(session.expires_at - self._clock(), 0.0)

    def devices(self) -> tuple[DeviceStatus, ...]:
        """What is known of every admitted device, the one heard of last first. Changes nothing."""
        now = self._clock()
        known = (status_of(session, now) for session in self._sessions if session.expires_at > now)
        return tuple(sorted(known, key=lambda device: device.silent_s))

    def device_of(self, session_id: str) -> str | None:
        """What the device of an open session calls itself; None if there is no such session."""
        return self._sessions.device_of(session_id)

    def check(self, peer: Peer | None) -> None:
        """Let a peer pass whose credential is good now.

        Raises:
            UnauthenticatedError: it is not, or there is none.
        """
        try:
            self._check_peer(peer)
        except EdgeServerError as error:
            self._rejected(error, peer)
            raise

    def refusal_of(self, peer: Peer) -> EdgeServerError | None:
        """Why a peer may come in no more; None: it may. Counts nothing."""
        try:
            self._check_peer(peer)
        except EdgeServerError as error:
            return error
        return None

    def end_revoked(self) -> int:
        """End the sessions of whoever may come in no more, and cancel their questions; how many it were."""
        gone = {peer for peer in self._sessions.owners() if self.refusal_of(peer) is not None}
        ended = self._sessions.of(gone) if gone else []
        for session in ended:
            self._sessions.remove(session.session_id)
            session.answered.cancel_all()
            self._left(session.session_id)
        if ended:
            logger.warning("sessions ended with their credentials", extra={"sessions": len(ended)})
            if self._observer is not None:
                self._observer.sessions(len(self._sessions))
        return len(ended)

    def stream(self, peer: Peer | None) -> contextlib.AbstractContextManager[None]:
        """Let a peer have a stream, until the context that is returned ends.

        Raises:
            UnauthenticatedError: its credential is not good.
            AdmissionRefusedError: it holds too many already.
        """
        try:
            self._check_peer(peer)
            return self.limits.stream(peer)
        except EdgeServerError as error:
            self._rejected(error, peer)
            raise

    def open(self, device_id: str, bundle_hash: str, snr_db: float, *, peer: Peer | None = None) -> Session:
        """Admit a device, or renew its grant.

        Args:
            device_id: what it calls itself, as a front door has checked; the same one gets the same session
                back.
            bundle_hash: of the bundle it runs.
            snr_db: what it measures [dB].
            peer: who it has shown to be.

        Raises:
            UnauthenticatedError: its credential is not good.
            PermissionDeniedError: it calls itself by another's name.
            InvalidQuestionError: snr_db is not a finite number.
            BundleMismatchError: it runs another bundle.
            AdmissionRefusedError: too many sessions are open, or too many devices arrive at once.
        """
        try:
            self._check_peer(peer)
            if not math.isfinite(snr_db):
                raise InvalidQuestionError("snr_db", f"is {snr_db}; must be a finite number")
            if peer is not None:
                peer.check_device_id(device_id)
            backend = self._backends.of(bundle_hash)
            grant = make_grant(
                self.config,
                snr_db,
                backend.token_lengths,
                backend.token_length,
                rounds=backend.knows_how_sure,
            )
            if not self._sessions.knows(device_id):
                self._arrivals.admit()
            session = self._sessions.open(
                device_id, snr_db, grant, lambda: self._idempotency_of(device_id), peer
            )
            session.bundle_hash = bundle_hash
            if self._allocator is not None:
                self._allocator.admit(session)
        except EdgeServerError as error:
            self._rejected(error, peer)
            raise
        if self._observer is not None:
            self._observer.sessions(len(self._sessions))
        return session

    def close(self, session_id: str, *, peer: Peer | None = None) -> None:
        """End a session; its questions in flight are cancelled. Closing twice is harmless.

        Raises:
            UnauthenticatedError: the peer's credential is not good.
            PermissionDeniedError: another device opened it.
        """
        with contextlib.suppress(SessionNotFoundError):
            self._session(session_id, peer)
        session = self._sessions.remove(session_id)
        if session is not None:
            session.answered.cancel_all()
            self._left(session_id)
        if self._observer is not None:
            self._observer.sessions(len(self._sessions))

    def ask(
        self,
        session_id: str,
        bundle_hash: str,
        request_id: str,
        *,
        digest: Callable[[], bytes],
        size_bytes: int,
        prepare: Prepare,
        peer: Peer | None = None,
        priority: Callable[[], Priority] = lambda: "interactive",
        run: Run = lambda session, request, submit: submit(request),
    ) -> Subscription:
        """Admit a question, before any of it is decoded.

        Args:
            session_id: who asks.
            bundle_hash: of the bundle that made its tokens.
            request_id: idempotency key of the device.
            digest: fingerprint of the question's content; taken only of one that is run, or was sent before.
            size_bytes: what it took on the wire.
            prepare: decodes it; called only if it is admitted and was not asked before.
            peer: who sent it.
            priority: tells its class; raises InvalidQuestionError where it has none.
            run: has it answered; called as ``prepare`` is. One in rounds asks the engine several times.

        Returns:
            Its run: a new one, or the one that an earlier question with this key began.

        Raises:
            UnauthenticatedError: the peer's credential is not good, or not any more.
            SessionNotFoundError: the session is unknown, closed or expired.
            PermissionDeniedError: another device opened it.
            BundleMismatchError: the tokens come from another bundle.
            InvalidQuestionError: from ``prepare`` or the engine, or request_id is empty or too long.
            QuestionTooLargeError: it is larger than granted.
            RequestConflictError: request_id was used for another question.
            AdmissionRefusedError: too many of the session's questions are in flight, or too many per minute.
            EngineOverloadedError, DrainingError: from the engine.
        """
        session, backend, wanted, known = self._entered(
            session_id, bundle_hash, request_id, digest, size_bytes, peer, priority
        )
        if known is not None:
            return known
        self._admit(backend, session.session_id, wanted)
        try:
            request = prepare(session)
        except EdgeServerError as error:
            self._rejected(error, peer)
            raise
        content = digest()
        # Its device may ask it again elsewhere, where doors are many: only this tells that it is the same.
        request = replace(request, asked_as=AskedAs(session.device_id, request_id, content))
        stream = run(session, request, partial(self.submit, backend))
        return session.answered.record(request_id, content, stream)

    def share(
        self,
        session_id: str,
        bundle_hash: str,
        request_id: str,
        *,
        digest: Callable[[], bytes],
        size_bytes: int,
        begin: Callable[[Session], AnswerStream],
        peer: Peer | None = None,
    ) -> Subscription:
        """Admit what a device shares, as a question is admitted; no engine is asked.

        Args:
            session_id: of the device.
            bundle_hash: of the bundle that made its tokens.
            request_id: idempotency key of the device.
            digest: as for :meth:`ask`.
            size_bytes: what it took on the wire.
            begin: decodes and stores it; its stream ends when it is safe. Called only if it is admitted and
                was not shared before.
            peer: who sent it.

        Raises:
            as :meth:`ask`, but for what the engine raises; what ``begin`` raises.
        """
        session, _, _, known = self._entered(
            session_id, bundle_hash, request_id, digest, size_bytes, peer, lambda: "background"
        )
        if known is not None:
            return known
        try:
            stream = begin(session)
        except EdgeServerError as error:
            self._rejected(error, peer)
            raise
        return session.answered.record(request_id, digest(), stream)

    def more(self, session_id: str, size_bytes: int, *, peer: Peer | None = None) -> Session:
        """Admit further tokens of a question that was admitted: the session that they come in.

        Args:
            session_id: of the device.
            size_bytes: what they took on the wire.
            peer: who sent them.

        Raises:
            UnauthenticatedError, SessionNotFoundError, PermissionDeniedError: as :meth:`ask`.
            QuestionTooLargeError: they are larger than granted.
            AdmissionRefusedError: too many bytes per minute.
        """
        try:
            self._check_peer(peer)
            session = self._sessions.get(session_id, peer)
            if size_bytes > session.grant.max_question_bytes:
                raise QuestionTooLargeError(
                    "more", f"takes {size_bytes} bytes; {session.grant.max_question_bytes} are granted"
                )
            session.seen_at = self._clock()
            self.limits.spend(peer, questions=0, size_bytes=size_bytes)
        except EdgeServerError as error:
            self._rejected(error, peer)
            raise
        return session

    def late(self, session_id: str, deadline_s: float, encode_s: float, *, peer: Peer | None = None) -> None:
        """A device has given up a question before it was sent; an allocation reckons with it as with others.

        Where making its tokens took too long, no bandwidth helps its deadline; where sending them did, more
        does.

        Args:
            session_id: of the device.
            deadline_s: of the question, from when it was asked [s].
            encode_s: what making its tokens takes, at the least [s].
            peer: who sent it.

        Raises:
            UnauthenticatedError, SessionNotFoundError, PermissionDeniedError: as :meth:`cancel`.
        """
        session = self._session(session_id, peer)
        session.seen_at = self._clock()
        session.deadline_s, session.encode_s = deadline_s, encode_s
        if self._allocator is not None:
            self._allocator.asked(session)

    def session(self, session_id: str, peer: Peer | None = None) -> Session:
        """The open session of that id.

        Raises:
            UnauthenticatedError: the peer's credential is not good.
            SessionNotFoundError: the session is unknown, closed or expired.
            PermissionDeniedError: another device opened it.
        """
        return self._session(session_id, peer)

    def refused(self, error: EdgeServerError, peer: Peer | None) -> None:
        """Count, and where it is about access log, a refusal that was not the cell's own."""
        self._rejected(error, peer)

    def _entered(
        self,
        session_id: str,
        bundle_hash: str,
        request_id: str,
        digest: Callable[[], bytes],
        size_bytes: int,
        peer: Peer | None,
        priority: Callable[[], Priority],
    ) -> tuple[Session, BackendT, Priority, Subscription | None]:
        """What every question passes: who asks, within what is granted, and whether it was asked before."""
        try:
            self._check_peer(peer)
            session = self._sessions.get(session_id, peer)
            backend = self._backends.of(bundle_hash)
            _check_request_id(request_id)
            grant = session.grant
            if size_bytes > grant.max_question_bytes:
                raise QuestionTooLargeError(
                    "question", f"takes {size_bytes} bytes; {grant.max_question_bytes} are granted"
                )
            wanted = priority()
            session.seen_at, session.question_bytes = self._clock(), size_bytes
            if self._allocator is not None:
                self._allocator.asked(session)
            self.limits.spend(peer, questions=1, size_bytes=size_bytes)
            known = session.answered.find(request_id, digest)
            if known is not None:
                return session, backend, wanted, known
            if session.answered.in_flight >= grant.max_questions_in_flight:
                raise AdmissionRefusedError(
                    f"{session.answered.in_flight} questions of this session are in flight, "
                    f"at most {grant.max_questions_in_flight} may be",
                    reason="questions_in_flight",
                    # Users take turns: of each one's questions as many are answered as of all.
                    retry_delay_s=backend.retry_delay_s,
                )
        except EdgeServerError as error:
            self._rejected(error, peer)
            raise
        return session, backend, wanted, None

    def admit(
        self, user: str, priority: Priority = "interactive", backend: BackendT | None = None
    ) -> BackendT:
        """Admit a question that belongs to no session, as REST's and the page's do, before media are decoded.

        Args:
            user: whom it counts for.
            priority: its class.
            backend: what has to answer it; None: the current one.

        Returns:
            What will answer it, to be passed to :meth:`submit`, whatever takes its place meanwhile.

        Raises:
            EngineOverloadedError, DrainingError: from the engine.
        """
        backend = backend or self._backends.current
        self._admit(backend, user, priority)
        return backend

    def submit(self, backend: BackendT, request: Request) -> AnswerStream:
        """Hand an admitted question to what answers it; raises what its engine raises."""
        return backend.submit(request)

    def _admit(self, backend: BackendT, user: str, priority: Priority) -> None:
        """Refuse a question for which there is no room; the engine counts whom it turns away."""
        backend.admit(user, priority)

    def cancel(self, session_id: str, request_id: str, *, peer: Peer | None = None) -> bool:
        """Take a question back; False if none of that key is in flight.

        Raises:
            UnauthenticatedError: the peer's credential is not good.
            SessionNotFoundError: the session is unknown, closed or expired.
            PermissionDeniedError: another device opened it.
        """
        return self._session(session_id, peer).answered.cancel(request_id)

    def acknowledge(self, session_id: str, request_ids: Iterable[str], *, peer: Peer | None = None) -> None:
        """The device has the answers to these safe: they need not be kept.

        Raises:
            UnauthenticatedError, SessionNotFoundError, PermissionDeniedError: as :meth:`cancel`.
        """
        self._session(session_id, peer).answered.acknowledge(request_ids)

    def _left(self, session_id: str) -> None:
        if self._allocator is not None:
            self._allocator.left(session_id)

    def _session(self, session_id: str, peer: Peer | None) -> Session:
        try:
            self._check_peer(peer)
            return self._sessions.get(session_id, peer)
        except (UnauthenticatedError, PermissionDeniedError) as error:
            self._rejected(error, peer)
            raise

    def _check_peer(self, peer: Peer | None) -> None:
        if self._access is None:
            return
        if peer is None:
            raise UnauthenticatedError("no device certificate came with this call", reason="no_certificate")
        self._access.check(peer)

    def _idempotency_of(self, device_id: str) -> IdempotencyCache:
        answered = self._idempotency.get(device_id)
        if answered is None:
            answered = self._idempotency[device_id] = IdempotencyCache(device_id, self._answers)
        return answered

    def _rejected(self, error: EdgeServerError, peer: Peer | None) -> None:
        if self._observer is not None:
            match error:
                case OverloadedError() | UnauthenticatedError() | PermissionDeniedError():
                    self._observer.rejected(error.reason)
                case BundleMismatchError():
                    self._observer.rejected("bundle")
                case SessionNotFoundError():
                    self._observer.rejected("session")
                case _:
                    self._observer.rejected("invalid")
        if isinstance(error, UnauthenticatedError | PermissionDeniedError):
            now_s = self._clock()
            if self._log_lines.wait_s(1.0, now_s) == 0.0:
                self._log_lines.take(1.0, now_s)
                facts = {"device_id": peer.name, "credential": peer.credential} if peer is not None else {}
                logger.warning("not let in", extra={"reason": error.reason, **facts})


def _check_request_id(request_id: str) -> None:
    if not 1 <= len(request_id) <= MAX_REQUEST_ID_CHARS:
        raise InvalidQuestionError(
            "request_id", f"has {len(request_id)} characters; 1 to {MAX_REQUEST_ID_CHARS} are allowed"
        )
