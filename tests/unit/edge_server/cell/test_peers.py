"""What the cell asks of peers that have shown who they are; the registry behind it is scripted."""

from __future__ import annotations

import logging

import pytest

from edge_server.cell import BackendRegistry, Cell, CellConfig, LimitConfig, Limits, Peer
from edge_server.engine import AnswerStream, Priority, Request
from edge_server.errors import (
    AdmissionRefusedError,
    EdgeServerError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from tests.clock import FakeClock
from tests.weightless import BUNDLE_HASH, ask

CAMERA, CAR = Peer("camera", "1"), Peer("car", "2")


class Registry:
    """Knows who is good, and counts how often it is asked."""

    def __init__(self) -> None:
        self.revoked: set[str] = set()
        self.asked = 0

    def check(self, peer: Peer) -> None:
        self.asked += 1
        if peer.credential in self.revoked:
            raise UnauthenticatedError("revoked", reason="revoked")


class Bench:
    def __init__(self) -> None:
        self.registry = Registry()
        self.clock = FakeClock()
        self.runs = 0
        self.reasons: list[str] = []
        self.bundle_hashes = (BUNDLE_HASH,)
        self.token_lengths = (1, 2, 4, 8, 16, 32)
        self.symbols_per_token = 32
        self.knows_how_sure = False
        self.token_length: int | None = None
        self.retry_delay_s = 0.05
        self.cell: Cell[Bench] = Cell(
            BackendRegistry(self),
            CellConfig(max_questions_in_flight=100),
            clock=self.clock,
            observer=self,
            access=self.registry,
            limits=Limits(LimitConfig(questions_per_minute=50, max_streams=1), self.clock),
        )

    def admit(self, user: str, priority: Priority = "interactive") -> None:
        pass

    def submit(self, request: Request) -> AnswerStream:
        self.runs += 1
        return AnswerStream(lambda: None)

    def sessions(self, count: int) -> None:
        pass

    def rejected(self, reason: str) -> None:
        self.reasons.append(reason)

    def ask(self, session_id: str, request_id: str, peer: Peer | None) -> None:
        self.cell.ask(
            session_id,
            BUNDLE_HASH,
            request_id,
            digest=lambda: b"d",
            size_bytes=10,
            prepare=lambda session: Request(ask(1, 2), user=session.session_id),
            peer=peer,
        )


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_every_frame_is_checked_and_a_revocation_stops_the_next(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    session = bench.cell.open("camera", BUNDLE_HASH, 10.0, peer=CAMERA)
    for number in range(3):
        bench.ask(session.session_id, f"q{number}", CAMERA)
    assert bench.registry.asked == 4
    bench.registry.revoked.add("1")
    calls = (
        lambda: bench.ask(session.session_id, "q4", CAMERA),
        lambda: bench.cell.cancel(session.session_id, "q1", peer=CAMERA),
        lambda: bench.cell.close(session.session_id, peer=CAMERA),
        lambda: bench.cell.open("camera", BUNDLE_HASH, 10.0, peer=CAMERA),
        lambda: bench.cell.check(CAMERA),
    )
    for call in calls:
        with pytest.raises(UnauthenticatedError):
            call()
    assert bench.runs == 3
    assert bench.reasons == ["revoked"] * 5
    assert {record.reason for record in caplog.records} == {"revoked"}  # type: ignore[attr-defined]


def test_who_shows_nothing_is_refused(bench: Bench) -> None:
    with pytest.raises(UnauthenticatedError):
        bench.cell.open("camera", BUNDLE_HASH, 10.0)
    assert bench.reasons == ["no_certificate"]


def test_names_and_sessions_belong_to_their_peer(bench: Bench) -> None:
    session = bench.cell.open("camera/1", BUNDLE_HASH, 10.0, peer=CAMERA)
    refused: tuple[object, ...] = (
        lambda: bench.cell.open("camera/1", BUNDLE_HASH, 10.0, peer=CAR),
        lambda: bench.ask(session.session_id, "q", CAR),
        lambda: bench.cell.cancel(session.session_id, "q", peer=CAR),
        lambda: bench.cell.close(session.session_id, peer=CAR),
    )
    for call in refused:
        with pytest.raises(PermissionDeniedError):
            call()  # type: ignore[operator]
    assert bench.cell.sessions == 1
    bench.cell.close("unknown", peer=CAR)
    bench.ask(session.session_id, "q", CAMERA)


def test_rates_and_streams_are_counted_by_peer_not_by_session(bench: Bench) -> None:
    sessions = [bench.cell.open(f"camera/{n}", BUNDLE_HASH, 10.0, peer=CAMERA) for n in range(2)]
    for number in range(50):
        bench.ask(sessions[number % 2].session_id, f"q{number}", CAMERA)
    with pytest.raises(AdmissionRefusedError):
        bench.ask(sessions[0].session_id, "more", CAMERA)
    with bench.cell.stream(CAMERA), pytest.raises(AdmissionRefusedError), bench.cell.stream(CAMERA):
        pass
    assert bench.reasons == ["question_rate", "streams"]


def test_attackers_cannot_fill_the_log(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.registry.revoked.add("1")
    with caplog.at_level(logging.WARNING):
        for _ in range(1000):
            with pytest.raises(EdgeServerError):
                bench.cell.check(CAMERA)
    assert len(bench.reasons) == 1000
    assert len(caplog.records) <= 20
