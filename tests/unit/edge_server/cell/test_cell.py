from __future__ import annotations

import itertools

import pytest

from edge_server.cell import BackendRegistry, Cell, CellConfig, Session, Subscription
from edge_server.cell.grant import make_grant
from edge_server.engine import AnswerStream, Completion, Delta, Event, Priority, Request
from edge_server.errors import (
    AdmissionRefusedError,
    BundleMismatchError,
    EdgeServerError,
    EngineFailureError,
    EngineOverloadedError,
    InvalidQuestionError,
    QuestionCancelledError,
    QuestionTooLargeError,
    RequestConflictError,
    SessionNotFoundError,
)
from tests.clock import FakeClock
from tests.weightless import BUNDLE_HASH, ask

OTHER_HASH = "ef" * 32
ANSWER = Completion("yes", 0.5, 10, 1, 0.0, 0.0, "stop")


class Bench:
    """A cell whose engine only writes down what reaches it."""

    def __init__(self, config: CellConfig | None = None) -> None:
        self.clock = FakeClock()
        self.runs: list[tuple[Request, AnswerStream]] = []
        self.rejections: list[str] = []
        ids = itertools.count()
        self.bundle_hashes = (BUNDLE_HASH, OTHER_HASH)
        self.token_lengths = (1, 2, 4, 8, 16, 32)
        self.symbols_per_token = 32
        self.knows_how_sure = False
        self.token_length: int | None = None
        self.retry_delay_s = 0.75
        self.cell: Cell[Bench] = Cell(
            BackendRegistry(self),
            config,
            clock=self.clock,
            new_id=lambda: f"session-{next(ids)}",
            observer=self,
        )
        self.refusal: EdgeServerError | None = None
        self.full: EdgeServerError | None = None

    def admit(self, user: str, priority: Priority = "interactive") -> None:
        if self.full is not None:
            raise self.full

    def submit(self, request: Request) -> AnswerStream:
        if self.refusal is not None:
            raise self.refusal
        stream = AnswerStream(lambda: stream.fail(QuestionCancelledError()))
        self.runs.append((request, stream))
        return stream

    def sessions(self, count: int) -> None:
        assert count == self.cell.sessions

    def rejected(self, reason: str) -> None:
        self.rejections.append(reason)

    def open(self, device_id: str = "camera") -> Session:
        return self.cell.open(device_id, BUNDLE_HASH, 10.0)

    def ask(
        self, session: Session, request_id: str = "q1", content: bytes = b"content", size_bytes: int = 100
    ) -> Subscription:
        return self.cell.ask(
            session.session_id,
            BUNDLE_HASH,
            request_id,
            digest=lambda: content,
            size_bytes=size_bytes,
            prepare=lambda admitted: Request(ask(1), admitted.session_id, request_id=request_id),
        )


async def read(subscription: Subscription) -> list[Event]:
    return [event async for event in subscription]


def test_a_session_has_a_grant() -> None:
    session = Bench().open()
    assert session.grant.token_length == 16
    assert session.grant.max_token_length == 32


def test_opening_again_renews_and_keeps_the_session() -> None:
    bench = Bench(CellConfig(grant_valid_s=100.0))
    session = bench.open()
    bench.clock.advance(90.0)
    assert bench.open().session_id == session.session_id
    bench.clock.advance(90.0)
    bench.ask(session)
    assert bench.open("microphone").session_id != session.session_id


@pytest.mark.parametrize("snr_db", [float("nan"), float("inf")])
def test_an_snr_is_a_number(snr_db: float) -> None:
    with pytest.raises(InvalidQuestionError, match="snr_db"):
        Bench().cell.open("camera", BUNDLE_HASH, snr_db)


def test_sessions_are_bounded_and_the_refusal_says_when_to_come_back() -> None:
    bench = Bench(CellConfig(max_sessions=2, grant_valid_s=3.0))
    bench.open("a")
    bench.clock.advance(1.0)
    bench.open("b")
    with pytest.raises(AdmissionRefusedError) as refused:
        bench.open("c")
    assert refused.value.retry_delay_s == pytest.approx(2.0)
    bench.clock.advance(refused.value.retry_delay_s)
    assert bench.open("c").device_id == "c"
    assert bench.cell.sessions == 2


def test_a_session_that_expired_or_was_closed_is_not_found() -> None:
    bench = Bench(CellConfig(grant_valid_s=10.0))
    expired = bench.open("a")
    bench.clock.advance(10.0)
    with pytest.raises(SessionNotFoundError):
        bench.ask(expired)
    closed = bench.open("b")
    bench.cell.close(closed.session_id)
    bench.cell.close(closed.session_id)
    with pytest.raises(SessionNotFoundError):
        bench.ask(closed)
    assert bench.rejections == ["session", "session"]


async def test_closing_cancels_what_is_in_flight() -> None:
    bench = Bench()
    session = bench.open()
    subscription = bench.ask(session)
    bench.cell.close(session.session_id)
    with pytest.raises(QuestionCancelledError):
        await read(subscription)


def test_another_bundle_is_refused_naming_both() -> None:
    bench = Bench()
    with pytest.raises(BundleMismatchError) as refused:
        bench.cell.open("camera", "cd" * 32, 10.0)
    for named in ("cd" * 32, BUNDLE_HASH, OTHER_HASH):
        assert named in str(refused.value)


def test_every_bundle_that_the_model_answers_for_is_welcome() -> None:
    bench = Bench()
    session = bench.cell.open("camera", OTHER_HASH, 10.0)
    for number, bundle_hash in enumerate((OTHER_HASH, BUNDLE_HASH), 1):
        bench.cell.ask(
            session.session_id,
            bundle_hash,
            f"q{number}",
            digest=lambda: b"content",
            size_bytes=100,
            prepare=lambda admitted: Request(ask(1), admitted.session_id),
        )
        assert len(bench.runs) == number


def test_nothing_is_decoded_before_it_is_admitted() -> None:
    bench = Bench(CellConfig(max_question_bytes=1024, max_questions_in_flight=1))
    session = bench.open()

    def never(*_: object) -> Request:
        raise AssertionError("decoded a question that was not admitted")

    def cell_ask(session_id: str, bundle_hash: str, request_id: str, size_bytes: int) -> None:
        bench.cell.ask(
            session_id, bundle_hash, request_id, digest=lambda: b"", size_bytes=size_bytes, prepare=never
        )

    with pytest.raises(SessionNotFoundError):
        cell_ask("nobody", BUNDLE_HASH, "q", 1)
    with pytest.raises(BundleMismatchError):
        cell_ask(session.session_id, "", "q", 1)
    with pytest.raises(QuestionTooLargeError):
        cell_ask(session.session_id, BUNDLE_HASH, "q", 1025)
    for request_id in ("", "x" * 65):
        with pytest.raises(InvalidQuestionError, match="request_id"):
            cell_ask(session.session_id, BUNDLE_HASH, request_id, 1)
    bench.ask(session, "running")
    with pytest.raises(AdmissionRefusedError):
        cell_ask(session.session_id, BUNDLE_HASH, "one-more", 1)
    assert len(bench.runs) == 1


async def test_a_question_sent_again_while_it_runs_shares_the_run() -> None:
    bench = Bench()
    session = bench.open()
    first, again = bench.ask(session), bench.ask(session)
    (_, stream) = bench.runs[0]
    stream.push(Delta("yes"))
    stream.push(ANSWER)
    assert await read(first) == await read(again) == [Delta("yes"), ANSWER]
    assert len(bench.runs) == 1


async def test_a_question_sent_again_after_its_answer_is_not_run_again() -> None:
    bench = Bench()
    session = bench.open()
    first = bench.ask(session)
    bench.runs[0][1].push(ANSWER)
    first.close()
    assert await read(bench.ask(session)) == [Delta("yes"), ANSWER]
    assert len(bench.runs) == 1


async def test_one_asker_leaving_does_not_take_the_answer_from_the_other() -> None:
    bench = Bench()
    session = bench.open()
    first, again = bench.ask(session), bench.ask(session)
    first.close()
    first.close()
    bench.runs[0][1].push(ANSWER)
    assert await read(again) == [ANSWER]


async def test_when_every_asker_has_left_the_run_is_cancelled_and_asking_again_runs_again() -> None:
    bench = Bench()
    session = bench.open()
    bench.ask(session).close()
    assert isinstance(bench.runs[0][1].error, QuestionCancelledError)
    bench.ask(session)
    assert len(bench.runs) == 2
    assert session.answered.in_flight == 1


@pytest.mark.parametrize("answered", [False, True])
def test_the_same_key_with_other_content_is_refused(answered: bool) -> None:
    bench = Bench()
    session = bench.open()
    bench.ask(session, content=b"one")
    if answered:
        bench.runs[0][1].push(ANSWER)
    with pytest.raises(RequestConflictError):
        bench.ask(session, content=b"other")


def test_keys_of_two_sessions_do_not_meet() -> None:
    bench = Bench()
    bench.ask(bench.open("a"), content=b"one")
    bench.ask(bench.open("b"), content=b"other")
    assert len(bench.runs) == 2


@pytest.mark.parametrize("error", [EngineFailureError("broken"), QuestionCancelledError()])
def test_what_ended_without_an_answer_may_be_asked_again(error: EdgeServerError) -> None:
    bench = Bench()
    session = bench.open()
    bench.ask(session)
    bench.runs[0][1].fail(error)
    bench.ask(session, content=b"even with other content")
    assert len(bench.runs) == 2


def test_answers_are_kept_for_a_bounded_time_and_number() -> None:
    bench = Bench(CellConfig(answers_kept=3, answers_kept_s=60.0))
    session = bench.open()
    for number in range(5):
        bench.ask(session, f"q{number}")
        bench.runs[-1][1].push(ANSWER)
    bench.ask(session, "q4")
    bench.ask(session, "q2")
    assert len(bench.runs) == 5
    bench.ask(session, "q1")
    assert len(bench.runs) == 6
    bench.clock.advance(61.0)
    bench.ask(session, "q4")
    assert len(bench.runs) == 7


def test_an_answer_that_ended_makes_room_for_the_next_question() -> None:
    bench = Bench(CellConfig(max_questions_in_flight=2))
    session = bench.open()
    bench.ask(session, "q1")
    bench.ask(session, "q2")
    with pytest.raises(AdmissionRefusedError) as refused:
        bench.ask(session, "q3")
    assert refused.value.retry_delay_s == bench.retry_delay_s
    bench.runs[0][1].push(ANSWER)
    bench.ask(session, "q3")
    assert session.answered.in_flight == 2


def test_a_question_that_the_engine_refuses_leaves_nothing_behind() -> None:
    bench = Bench()
    session = bench.open()
    bench.refusal = EngineOverloadedError("full", reason="queue", retry_delay_s=1.0)
    with pytest.raises(EngineOverloadedError):
        bench.ask(session)
    bench.refusal = None
    assert session.answered.in_flight == 0
    bench.ask(session)
    assert len(bench.runs) == 1


def test_devices_are_seen_with_what_they_do_and_are_granted() -> None:
    bench = Bench(CellConfig(grant_valid_s=100.0))
    quiet, busy = bench.open("quiet"), bench.open("busy")
    bench.clock.advance(61.0)
    bench.ask(busy, "q1", size_bytes=700)
    first, second = bench.cell.devices()
    assert (first.device_id, first.state, first.in_flight, first.question_bytes) == ("busy", "asking", 1, 700)
    assert (first.snr_db, first.silent_s) == (10.0, 0.0)
    assert first.grant is busy.grant
    assert (second.device_id, second.state, second.in_flight, second.silent_s) == ("quiet", "silent", 0, 61.0)
    bench.runs[0][1].push(ANSWER)
    assert bench.cell.devices()[0].state == "idle"
    bench.cell.open("quiet", BUNDLE_HASH, 3.0)
    assert {device.device_id: device.snr_db for device in bench.cell.devices()} == {
        "quiet": 3.0,
        "busy": 10.0,
    }
    assert bench.cell.device_of(quiet.session_id) == "quiet"
    assert bench.cell.device_of("unknown") is None
    bench.clock.advance(99.5)
    assert [device.device_id for device in bench.cell.devices()] == ["quiet"]
    assert bench.cell.sessions == 2, "looking changes nothing"


def test_what_the_engine_has_no_room_for_is_not_decoded() -> None:
    bench = Bench()
    session = bench.open()
    bench.full = EngineOverloadedError("full", reason="queue", retry_delay_s=0.5)

    def decode(admitted: Session) -> Request:
        raise AssertionError("was decoded")

    with pytest.raises(EngineOverloadedError):
        bench.cell.ask(
            session.session_id, BUNDLE_HASH, "q1", digest=lambda: b"", size_bytes=1, prepare=decode
        )
    assert bench.rejections == []  # the engine has counted it
    assert session.answered.in_flight == 0
    bench.full = None
    bench.ask(session)


async def test_a_devices_answers_and_runs_outlive_its_session() -> None:
    bench = Bench(CellConfig(grant_valid_s=100.0))
    first = bench.open()
    bench.ask(first, "answered")
    bench.runs[0][1].push(ANSWER)
    running = bench.ask(first, "running")
    bench.clock.advance(100.0)
    second = bench.open()
    assert second.session_id != first.session_id
    assert await read(bench.ask(second, "answered")) == [Delta("yes"), ANSWER]
    again = bench.ask(second, "running")
    bench.runs[1][1].push(ANSWER)
    assert await read(again) == await read(running) == [ANSWER]
    assert len(bench.runs) == 2
    with pytest.raises(RequestConflictError):
        bench.ask(second, "answered", content=b"other")
    bench.cell.acknowledge(second.session_id, ["answered"])
    bench.ask(second, "answered", content=b"other")
    assert len(bench.runs) == 3
    with pytest.raises(SessionNotFoundError):
        bench.cell.acknowledge(first.session_id, ["running"])


def test_arriving_devices_are_spread_and_those_that_renew_are_not_among_them() -> None:
    bench = Bench(CellConfig(arrivals_per_s=1.0, arrivals_burst=2))
    bench.open("a")
    bench.open("b")
    with pytest.raises(AdmissionRefusedError):
        bench.open("c")
    assert bench.open("a").device_id == "a"
    bench.clock.advance(1.0)
    bench.open("c")
    assert bench.rejections == ["arrivals"]


def test_a_model_that_works_best_with_one_token_length_is_sent_that_whatever_the_link() -> None:
    config = CellConfig()
    for snr_db in (-10.0, 30.0):
        assert make_grant(config, snr_db, (1, 4, 16), 16).token_length == 16
    assert make_grant(config, 30.0, (1, 4, 8, 16)).token_length == 8
