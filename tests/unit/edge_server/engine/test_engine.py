from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest

from edge_server.engine import AnswerStream, Completion, Delta, Engine, EngineConfig, Priority, Request
from edge_server.errors import (
    DeadlineExpiredError,
    DrainingError,
    EdgeServerError,
    EngineFailureError,
    EngineOverloadedError,
    InvalidQuestionError,
    QuestionCancelledError,
)
from tests.waiting import PATIENCE_S, obey, turns, until
from tests.weightless import State, WeightlessModel, ask

Start = Callable[..., Awaitable[Engine[State]]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    engines: list[Engine[State]] = []

    async def begin(
        model: WeightlessModel, *, clock: Callable[[], float] = time.monotonic, **bounds: float
    ) -> Engine[State]:
        config = EngineConfig(**bounds)  # type: ignore[arg-type]
        engine: Engine[State] = Engine(model, config, runner_of=lambda _: model, clock=clock)
        engines.append(engine)
        await engine.start()
        return engine

    yield begin
    for engine in engines:
        engine.model.gate.open()  # type: ignore[attr-defined]
        await engine.stop()


async def outcome(stream: AnswerStream) -> str:
    try:
        return (await stream.completion()).text
    except EdgeServerError as error:
        return type(error).__name__


async def test_an_answer_streams_and_its_pieces_are_the_whole(start: Start) -> None:
    engine = await start(WeightlessModel())
    events = [event async for event in engine.submit(Request(ask(1, 2, blocks={"audio": 4}), "user"))]
    end = events.pop()
    assert isinstance(end, Completion)
    assert end.text == "2+audio:4"
    assert "".join(event.text for event in events if isinstance(event, Delta)) == end.text
    assert len(events) > 1
    assert engine.unanswered == 0


async def test_two_readers_of_one_stream_read_the_same(start: Start) -> None:
    engine = await start(WeightlessModel())
    stream = engine.submit(Request(ask(1), "user"))
    first = [event async for event in stream]
    assert [event async for event in stream] == first


async def test_a_cancel_frees_the_slot_and_the_neighbour_goes_on(start: Start) -> None:
    model = WeightlessModel(answer=lambda prompt: "x" * 30)
    model.gate.close()
    engine = await start(model, max_batch=2)
    leaves, stays, waits = (engine.submit(Request(ask(1), f"user-{n}")) for n in range(3))
    # The worker may have begun with the first question alone: then a step ends before the other comes in.
    await until(lambda: engine.running == 2 or model.gate.let_one_through())
    leaves.cancel()
    assert await outcome(leaves) == "QuestionCancelledError"
    model.gate.open()
    assert await outcome(waits) == "x" * 30
    assert await outcome(stays) == "x" * 30
    # The one step that was under way, then two rows again: the slot was taken at once.
    assert 3 not in model.decodes
    assert engine.running == 0


async def test_a_waiting_question_is_cancelled_without_being_run(start: Start) -> None:
    model = WeightlessModel(answer=lambda prompt: "x" * 5)
    model.gate.close()
    engine = await start(model, max_batch=1)
    running = engine.submit(Request(ask(1), "a"))
    await until(lambda: engine.running == 1)
    waiting = engine.submit(Request(ask(1), "b"))
    waiting.cancel()
    waiting.cancel()
    assert engine.waiting == 0
    model.gate.open()
    assert await outcome(running) == "xxxxx"
    assert sum(model.prefills) == 1


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (Request(ask(5000), "u"), "question_ids"),
        (Request(ask(1), "u", max_new_tokens=10_000), "max_new_tokens"),
        (Request(ask(1), "u", max_new_tokens=-1), "max_new_tokens"),
        (Request(ask(1), "u", deadline_s=-1.0), "deadline_s"),
        (Request(ask(1), "u", deadline_s=float("nan")), "deadline_s"),
        (Request(ask(1, blocks={"video": 2000}), "u"), "question"),
    ],
)
async def test_what_cannot_be_asked_is_refused_at_once(start: Start, request_: Request, field: str) -> None:
    engine = await start(WeightlessModel(), max_batch_positions=1000)
    with pytest.raises(InvalidQuestionError) as refused:
        engine.submit(request_)
    assert refused.value.field == field
    assert await outcome(engine.submit(Request(ask(1), "u"))) == "1"


async def test_a_full_queue_refuses_and_an_obedient_client_succeeds(start: Start) -> None:
    model = WeightlessModel()
    model.gate.close()
    engine = await start(model, max_batch=1, max_queue=2)
    running = engine.submit(Request(ask(1), "a"))
    await until(lambda: engine.running == 1)
    accepted = [running, engine.submit(Request(ask(1), "b")), engine.submit(Request(ask(1), "c"))]
    with pytest.raises(EngineOverloadedError) as refused:
        engine.submit(Request(ask(1), "d"))
    with pytest.raises(EngineOverloadedError):
        engine.admit("d")
    model.gate.open()
    await obey(refused.value.retry_delay_s)
    assert await outcome(engine.submit(Request(ask(1), "d"))) == "1"
    assert [await outcome(stream) for stream in accepted] == ["1"] * 3


async def test_a_batch_that_stands_still_does_not_hold_another(start: Start) -> None:
    held = threading.Event()

    def hold(rows: State) -> None:
        if rows[0].prompt.question_ids[0] == 13:
            held.wait(PATIENCE_S)

    engine = await start(WeightlessModel(prefill_fault=hold), batches=2)
    slow = engine.submit(Request(ask(13), "slow"))
    await until(lambda: engine.running == 1)
    assert [await outcome(engine.submit(Request(ask(n), "quick"))) for n in (1, 2)] == ["1", "1"]
    assert not slow.ended
    held.set()
    assert await outcome(slow) == "1"


def batch_threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("tokenlink-batch")]


async def test_idle_batches_all_stop(start: Start) -> None:
    engine = await start(WeightlessModel(), batches=4)
    await until(lambda: len(batch_threads()) == 4)
    await engine.stop(timeout_s=PATIENCE_S)
    assert not batch_threads()


async def test_draining_answers_what_it_has_and_takes_nothing_new(start: Start) -> None:
    model = WeightlessModel()
    model.gate.close()
    engine = await start(model)
    streams = [engine.submit(Request(ask(1), "a")) for _ in range(5)]
    assert engine.ready
    draining = asyncio.create_task(engine.drain())
    await turns()
    assert not engine.ready
    with pytest.raises(DrainingError):
        engine.submit(Request(ask(1), "a"))
    model.gate.open()
    await asyncio.wait_for(draining, PATIENCE_S)
    assert [await outcome(stream) for stream in streams] == ["1"] * 5


async def test_stopping_ends_what_is_unanswered(start: Start) -> None:
    model = WeightlessModel(answer=lambda prompt: "x" * 200)
    model.gate.close()
    engine = await start(model, max_batch=1)
    streams = [engine.submit(Request(ask(1), "a")) for _ in range(3)]
    await until(lambda: engine.running == 1)
    stopping = asyncio.create_task(engine.stop())
    assert [await outcome(stream) for stream in streams] == ["DrainingError"] * 3
    model.gate.open()
    await asyncio.wait_for(stopping, PATIENCE_S)


async def test_deadlines_hold_while_the_model_is_stuck(start: Start) -> None:
    model = WeightlessModel()
    model.gate.close()
    ahead = 0.0
    engine = await start(model, stall_s=5.0, clock=lambda: time.monotonic() + ahead)
    stream = engine.submit(Request(ask(1), "a", deadline_s=2.0))
    await until(lambda: engine.running == 1)
    ahead = 10.0
    with pytest.raises(DeadlineExpiredError):
        await asyncio.wait_for(stream.completion(), PATIENCE_S)
    assert not engine.ready
    model.gate.open()
    await until(lambda: engine.ready and engine.running == 0)
    assert await outcome(engine.submit(Request(ask(1), "a"))) == "1"


async def test_a_worker_that_dies_is_replaced_and_its_questions_are_run_again(start: Start) -> None:
    deaths = iter([SystemExit("killed")])

    def fault(rows: State) -> None:
        if all(row.said >= 2 for row in rows) and (death := next(deaths, None)) is not None:
            raise death

    model = WeightlessModel(answer=lambda prompt: "accordion", decode_fault=fault)
    engine = await start(model)
    streams = [engine.submit(Request(ask(1), "a")) for _ in range(4)]
    assert [await outcome(stream) for stream in streams] == ["accordion"] * 4
    assert next(deaths, None) is None
    assert engine.ready


async def test_a_question_that_kills_every_worker_fails_alone(start: Start) -> None:
    def fault(rows: State) -> None:
        if any(row.prompt.question_ids[0] == 666 for row in rows):
            raise SystemExit("killed")

    model = WeightlessModel(prefill_fault=fault)
    engine = await start(model)
    good = [engine.submit(Request(ask(1), "a")) for _ in range(3)]
    killer = engine.submit(Request(ask(666), "a"))
    good += [engine.submit(Request(ask(1), "a")) for _ in range(3)]
    with pytest.raises(EngineFailureError):
        await killer.completion()
    assert [await outcome(stream) for stream in good] == ["1"] * 6
    assert await outcome(engine.submit(Request(ask(1), "a"))) == "1"


class Deadly(WeightlessModel):
    """Telling certain text ends the thread that does."""

    def text(self, token_ids: Sequence[int]) -> str:
        said = super().text(token_ids)
        if said.endswith("!"):
            raise SystemExit("killed")
        return said


async def test_a_detokenizer_that_dies_is_replaced_and_the_question_it_died_on_fails_alone(
    start: Start,
) -> None:
    model = Deadly(answer=lambda prompt: "wrong! and more" if prompt.question_ids[0] == 2 else "accordion")
    engine = await start(model, max_batch=8)
    streams = [engine.submit(Request(ask(1 + number % 2), "a")) for number in range(8)]
    async with asyncio.timeout(PATIENCE_S):
        ends = [await outcome(stream) for stream in streams]
    assert ends == ["accordion", "EngineFailureError"] * 4
    await until(lambda: engine.ready and engine.running == 0)
    assert engine.unanswered == 0
    events = [event async for event in engine.submit(Request(ask(1), "a"))]
    assert "".join(event.text for event in events if isinstance(event, Delta)) == "accordion"


async def test_a_question_that_fails_in_words_leaves_the_batch(start: Start) -> None:
    class Mute(WeightlessModel):
        def text(self, token_ids: Sequence[int]) -> str:
            if ord("!") in token_ids:
                raise KeyError("!")
            return super().text(token_ids)

    model = Mute(answer=lambda prompt: "!" + "x" * 10_000)
    engine = await start(model, max_new_tokens=20_000)
    assert await outcome(engine.submit(Request(ask(1), "a", max_new_tokens=15_000))) == "EngineFailureError"
    await until(lambda: engine.running == 0)
    assert len(model.decodes) < 10_000


async def test_the_model_goes_on_while_words_are_found_and_waits_when_too_many_are_to_be_told(
    start: Start,
) -> None:
    telling = threading.Event()

    class Slow(WeightlessModel):
        def text(self, token_ids: Sequence[int]) -> str:
            assert telling.wait(PATIENCE_S)
            return super().text(token_ids)

    model = Slow(answer=lambda prompt: "x" * 100)
    engine = await start(model)
    stream = engine.submit(Request(ask(1), "a", max_new_tokens=200))
    await until(lambda: len(model.decodes) >= 3)
    # Each step wakes whoever waits here at least once; words are found for none of them.
    for _ in range(20):
        ahead = len(model.decodes)
        await turns(50)
    assert 3 <= ahead <= len(model.decodes) <= 8
    assert not stream.ended
    telling.set()
    assert await outcome(stream) == "x" * 100


@pytest.mark.parametrize("batches", [1, 3])
async def test_every_question_ends_exactly_once_whatever_happens(start: Start, batches: int) -> None:
    """Batch failures, poisoned rows, dying workers, cancellations, malformed questions, a full queue."""
    chance = random.Random(7)
    stormy = True

    def fault(rows: State) -> None:
        if any(row.prompt.question_ids[0] == 13 for row in rows):
            raise RuntimeError("a poisoned row")
        if stormy and chance.random() < 0.02:
            raise RuntimeError("a passing cloud")
        if stormy and chance.random() < 0.002:
            raise SystemExit("killed")

    class Talkative(WeightlessModel):
        def text(self, token_ids: Sequence[int]) -> str:
            if stormy and chance.random() < 0.0005:
                raise SystemExit("killed")
            return super().text(token_ids)

    model = Talkative(
        answer=lambda prompt: "word " * (prompt.question_ids[0] % 5),
        prefill_fault=fault,
        decode_fault=fault,
    )
    engine = await start(
        model, batches=batches, max_batch=8, max_queue=64, max_queue_per_user=32, max_recoveries=20
    )
    ends: Counter[str] = Counter()

    async def one(number: int) -> None:
        await turns(chance.randrange(400))
        question_id = 5000 if number % 50 == 0 else 13 if number % 50 == 1 else number % 10
        try:
            priority: Priority = "background" if number % 3 == 0 else "interactive"
            stream = engine.submit(Request(ask(question_id), f"user-{number % 7}", priority=priority))
        except (EngineOverloadedError, InvalidQuestionError) as refused:
            ends[type(refused).__name__] += 1
            return
        if number % 5 == 0:
            asyncio.get_running_loop().call_later(chance.random() * 0.02, stream.cancel)
        try:
            assert (await stream.completion()).text == ("word " * (question_id % 5))
            ends["answered"] += 1
        except EdgeServerError as error:
            ends[type(error).__name__] += 1

    questions = 1000
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(one(number) for number in range(questions)))
    assert sum(ends.values()) == questions
    assert ends["answered"] > 0
    assert ends[QuestionCancelledError.__name__] > 0
    assert ends[InvalidQuestionError.__name__] == questions // 50
    stormy = False
    # On a busy machine the queue may have been too full for every poisoned question of the storm.
    with pytest.raises(EngineFailureError):
        await engine.submit(Request(ask(13), "user")).completion()
    await until(lambda: engine.running == 0)
    assert engine.unanswered == engine.waiting == 0
    assert await outcome(engine.submit(Request(ask(2), "user"))) == "word word "
