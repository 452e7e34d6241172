"""What a load generator must not get wrong: when a latency begins, what was offered, who was turned away."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from deploy.loadtest.generator import NO_END, Manners, closed_loop, open_loop
from deploy.loadtest.measurement import Latencies
from deploy.loadtest.target import EXPIRED, Failed, Question, Refused, Template
from protos.tokenlink.v1 import tokenlink_pb2 as pb

TEMPLATE = Template.of(pb.Question(request_id="gone", question_ids=[1, 2], deadline_ms=4000), "a question")


class Server:
    """Answers one question at a time, each after ``takes_s``; refuses, fails, forgets on demand."""

    def __init__(self, takes_s: float = 0.0) -> None:
        self.takes_s = takes_s
        self.busy = asyncio.Lock()
        self.refuse_first = 0
        self.delay_s = 0.02
        self.fault: Exception | None = None
        self.asked: Counter[int] = Counter()
        self.seen: list[str] = []
        self.open = 0
        self.most_open = 100
        self.turn_away_first = 0

    async def connect(self, user: int) -> Server.Line:
        if self.open >= self.most_open:
            raise Refused(1e6, "full")
        if self.turn_away_first > 0:
            self.turn_away_first -= 1
            raise Refused(0.02, "not yet")
        self.open += 1
        return Server.Line(self, user)

    class Line:
        def __init__(self, server: Server, user: int) -> None:
            self.server, self.user = server, user

        async def ask(self, question: Question) -> str:
            server = self.server
            server.asked[self.user] += 1
            server.seen.append(question.request_id)
            if server.refuse_first > 0:
                server.refuse_first -= 1
                raise Refused(server.delay_s, "later")
            if server.fault is not None:
                raise server.fault
            async with server.busy:
                await asyncio.sleep(server.takes_s)
            return "yes"

        async def close(self) -> None:
            self.server.open -= 1


def draw(user: int) -> Question:
    return TEMPLATE.ask()


def test_a_question_is_what_protobuf_would_have_written() -> None:
    question = TEMPLATE.ask()
    parsed = pb.Question.FromString(question.data)
    assert parsed.request_id == question.request_id
    assert list(parsed.question_ids) == [1, 2]
    assert question.deadline_s == 4.0
    assert TEMPLATE.ask().request_id != question.request_id


def test_latencies_keep_three_digits() -> None:
    latencies = Latencies()
    for milliseconds in range(1, 101):
        latencies.record(milliseconds / 1000)
    assert latencies.at(50) == pytest.approx(0.050, rel=1e-3)
    assert latencies.at(99) == pytest.approx(0.099, rel=1e-3)
    assert latencies.to_json()["max_s"] == pytest.approx(0.1, rel=1e-3)
    assert latencies.curve()[-1][1] == pytest.approx(0.1, rel=1e-3)
    assert Latencies().to_json() == {"count": 0}


async def test_a_stalled_server_is_not_omitted() -> None:
    """20 a second, for half a second, to a server that takes 0.2 s each: the last waits for all before."""
    server = Server(takes_s=0.2)
    measured = await open_loop(server, [0], draw, 20.0, 0.5, rng=random.Random(3))
    offered = measured.offered
    assert offered >= 6
    assert measured.outcomes["answered"] == offered == measured.sent
    # Counted from when each would have been sent, not from when the server got round to it.
    assert measured.latencies.at(100) > 0.2 * offered - 0.5
    assert measured.in_window["answered"] < offered
    assert server.open == 0


async def test_arrivals_are_poisson_at_the_rate() -> None:
    server = Server()
    measured = await open_loop(server, range(3), draw, 400.0, 1.0, rng=random.Random(1))
    assert 320 < measured.offered < 480
    assert max(server.asked.values()) - min(server.asked.values()) <= 1
    ramped = await open_loop(Server(), [0], draw, 400.0, 1.0, rng=random.Random(1), ramp_s=1.0)
    assert 0.3 < ramped.offered / measured.offered < 0.7


async def test_what_is_too_much_for_the_generator_is_dropped_and_said() -> None:
    server = Server(takes_s=0.2)
    measured = await open_loop(server, [0], draw, 200.0, 0.3, rng=random.Random(1), most_outstanding=2)
    assert measured.dropped > 0
    assert measured.offered == measured.sent + measured.dropped
    assert measured.to_json()["sent_hz"] < measured.to_json()["offered_hz"]


async def test_closed_users_think_and_take_their_turn() -> None:
    server = Server()
    measured = await closed_loop(server, range(2), draw, 1.5, think_s=lambda user: 0.02 if user else 0.6)
    assert server.asked[1] > 2 * server.asked[0] > 0
    assert measured.offered == measured.ended == sum(server.asked.values())
    several = await closed_loop(Server(takes_s=0.05), [0], draw, 0.3, in_flight=4)
    assert several.latencies.at(50) > 0.15


async def test_a_user_that_is_turned_away_waits_as_told_and_is_answered() -> None:
    server = Server()
    server.refuse_first, server.delay_s = 2, 0.05
    measured = await closed_loop(server, [0], draw, 0.01)
    assert measured.refusals == 2
    assert measured.refusals_without_delay == 0
    assert measured.outcomes == {"answered": 1}
    assert measured.latencies.at(100) >= 0.1
    assert len(set(server.seen)) == 1  # sent again under its request_id


async def test_patience_ends() -> None:
    server = Server()
    server.refuse_first, server.delay_s = 1, 60.0
    measured = await closed_loop(server, [0], draw, 0.05, manners=Manners(patience_s=1.0))
    assert measured.outcomes == {"refused": 1}  # and the next question waits as long as told, too
    server.refuse_first, server.delay_s = 1, 0.0
    measured = await closed_loop(server, [0], draw, 0.05, manners=Manners(patience_s=0.0))
    assert measured.refusals_without_delay == 1
    assert measured.outcomes == {"refused": 1}


@pytest.mark.parametrize(
    ("fault", "outcome", "code"),
    [
        (Failed(EXPIRED, "late"), "expired", EXPIRED),
        (Failed("internal", "broken"), "failed", "internal"),
        (TimeoutError(), "failed", NO_END),
    ],
)
async def test_faults_are_counted_by_code(fault: Exception, outcome: str, code: str) -> None:
    server = Server()
    server.fault = fault
    measured = await closed_loop(server, [0], draw, 0.01, think_s=lambda user: 0.002)
    assert set(measured.outcomes) == {outcome}
    assert measured.faults[code] == measured.ended > 0
    assert len(measured.latencies) == 0


async def test_a_user_that_cannot_connect_ends_the_run_and_leaves_nothing_open() -> None:
    server = Server()
    server.most_open = 2
    with pytest.raises(Refused):
        await closed_loop(server, range(3), draw, 0.1)
    assert server.open == 0


async def test_a_user_that_may_not_come_in_yet_comes_back() -> None:
    server = Server()
    server.turn_away_first = 4
    measured = await closed_loop(server, range(3), draw, 0.05)
    assert server.turn_away_first == 0
    assert set(server.asked) == {0, 1, 2}
    assert measured.refusals == 0


async def test_a_user_that_was_turned_away_asks_nothing_until_its_delay_is_over() -> None:
    for obeys in (True, False):
        server = Server()
        server.refuse_first, server.delay_s = 1, 0.3
        manners = Manners(patience_s=0.0, obeys=obeys)
        measured = await open_loop(server, [0], draw, 100.0, 0.5, rng=random.Random(1), manners=manners)
        assert measured.outcomes["refused"] == 1
        assert measured.offered == measured.sent + measured.held_back
        assert 0.3 < measured.held_back / measured.offered < 0.9 if obeys else not measured.held_back


async def test_questions_of_a_patient_user_wait_with_it() -> None:
    server = Server()
    server.refuse_first, server.delay_s = 1, 0.3
    measured = await open_loop(server, [0], draw, 50.0, 0.4, rng=random.Random(1))
    assert measured.refusals == 1
    assert measured.outcomes == {"answered": measured.offered}
    assert measured.latencies.at(99) > 0.2
