"""A question in rounds ends with its answer, whatever becomes of the rounds; nothing is held for it then."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_server.cell import Ladder, ReceivedBlock, Segment, SharedBound
from edge_server.engine import AnswerStream, AskedAs, Completion, Delta, FeatureBlock, Prompt, Request
from edge_server.errors import DeadlineExpiredError, EngineOverloadedError, QuestionCancelledError
from edge_server.frontdoor.rounds import Climb, RoundsRun, Wanted
from tests.waiting import until

DONE = Completion("left", 0.9, 5, 1, 0.25, 0.5, "stop", confidence=0.95)
UNSURE = replace(DONE, text="right", confidence=0.4)
CLIMB = Climb(Ladder((2, 4), True, -12.0, {}), 0.9, abstain=False, unsure="not sure")
BOUND = {"in_all": 1000, "of_one": 1000, "reason": "bytes"}


class Engine:
    """Takes rounds, and answers them when it is told to."""

    def __init__(self) -> None:
        self.rounds: list[Request] = []
        self.streams: list[AnswerStream] = []
        self.cancelled = 0
        self.full = False

    def submit(self, request: Request) -> AnswerStream:
        if self.full:
            raise EngineOverloadedError("the queue is full", reason="queue", retry_delay_s=1.0)
        stream = AnswerStream(self._cancelled)
        self.rounds.append(request)
        self.streams.append(stream)
        return stream

    def _cancelled(self) -> None:
        self.cancelled += 1
        self.streams[-1].fail(QuestionCancelledError())


class Asked:
    """A run, and what became of it."""

    def __init__(
        self, engine: Engine, snr_db: float = 10.0, deadline_s: float = 60.0, **climb: object
    ) -> None:
        self.held = SharedBound("bytes", **BOUND)  # type: ignore[arg-type]
        self.wanted: list[Wanted] = []
        block = ReceivedBlock((segment(2, snr_db),))
        request = Request(
            Prompt((FeatureBlock("video", block.tokens(), snr_db),), (1, 2)),
            "user",
            asked_as=AskedAs("camera", "q1", b"digest"),
        )
        self.run = RoundsRun(
            request,
            {"video": block},
            replace(CLIMB, **climb),  # type: ignore[arg-type]
            engine.submit,
            deadline_s=deadline_s,
            on_wanted=self.wanted.append,
        )

    async def until_wanted(self) -> Wanted:
        return await anext(self.run.requests())

    def give(self, *segments: Segment) -> None:
        received = {}
        for each in segments:
            received["video"] = self.run.received["video"].with_more(each)
        self.run.deliver(received, self.held.hold("camera", 10))


def segment(tokens: int, snr_db: float = 10.0) -> Segment:
    return Segment(np.full((tokens, 4), tokens, np.float32), snr_db)


async def test_it_is_asked_again_with_what_came_and_the_answer_tells_what_all_rounds_took() -> None:
    engine = Engine()
    asked = Asked(engine)
    engine.streams[0].push(UNSURE)
    wanted = await asked.until_wanted()
    assert (wanted.round, wanted.lengths, wanted.begins, wanted.again) == (
        1,
        {"video": 4},
        {"video": 2},
        set(),
    )
    asked.give(segment(2, 0.0))
    await until(lambda: len(engine.rounds) == 2)
    engine.streams[1].push(DONE)
    answer = await asked.run.answer.completion()
    assert (answer.text, answer.queue_s, answer.compute_s) == ("left", 0.5, 1.0)
    (block,) = engine.rounds[1].prompt.blocks
    assert (len(block.x_TC), round(block.snr_db, 2)) == (4, round(10 * np.log10(5.5), 2))
    assert engine.rounds[0].whole
    assert engine.rounds[1].whole
    assert engine.rounds[1].deadline_s < 60.0
    first, then = (round_.asked_as for round_ in engine.rounds)
    assert first is not None
    assert then is not None
    assert first.digest != then.digest
    assert first.request_id != then.request_id
    assert asked.held.held == 0
    assert asked.run.received == {}


async def test_whoever_listens_hears_the_answer_that_counts_alone() -> None:
    engine = Engine()
    asked = Asked(engine)
    engine.streams[0].push(Delta("left"))
    engine.streams[0].push(DONE)
    assert [type(event) async for event in asked.run.answer] == [Delta, Completion]
    assert asked.wanted == []


async def test_an_answer_is_held_back_at_the_end_of_the_ladder_where_that_is_wanted() -> None:
    engine = Engine()
    asked = Asked(engine, ladder=Ladder((2,), True, -12.0, {}), abstain=True)
    engine.streams[0].push(UNSURE)
    answer = await asked.run.answer.completion()
    assert (answer.text, answer.guess, answer.abstained) == ("not sure", "right", True)
    assert answer.confidence == UNSURE.confidence


@pytest.mark.parametrize("why", ["the engine is full", "the device has no more", "the server drains", "time"])
async def test_what_cannot_go_on_ends_with_the_answer_of_the_round_before(why: str) -> None:
    engine = Engine()
    asked = Asked(engine, deadline_s=0.05 if why == "time" else 60.0)
    engine.streams[0].push(UNSURE)
    await asked.until_wanted()
    match why:
        case "the engine is full":
            engine.full = True
            asked.give(segment(2))
        case "the device has no more":
            asked.give()
        case "the server drains":
            asked.run.end_soon()
        case _:
            pass  # its deadline passes
    assert (await asked.run.answer.completion()).text == "right"
    assert asked.held.held == 0
    assert len(engine.rounds) == 1


async def test_what_was_lost_comes_again_before_the_engine_is_asked() -> None:
    engine = Engine()
    asked = Asked(engine, snr_db=-15.0)
    wanted = await asked.until_wanted()
    assert engine.rounds == []
    assert (wanted.lengths, wanted.begins, wanted.again) == ({"video": 2}, {"video": 0}, {"video"})
    asked.run.deliver(
        {"video": asked.run.received["video"].with_again(segment(2, -15.0))}, asked.held.hold("camera")
    )
    await until(lambda: len(engine.rounds) == 1)
    assert engine.rounds[0].prompt.blocks[0].snr_db == pytest.approx(-15.0 + 10 * np.log10(2.0))
    engine.streams[0].push(DONE)
    assert (await asked.run.answer.completion()).text == "left"


async def test_what_is_lost_and_cannot_come_again_is_asked_as_it_is() -> None:
    engine = Engine()
    asked = Asked(engine, snr_db=-15.0)
    await asked.until_wanted()
    asked.give()
    await until(lambda: len(engine.rounds) == 1)
    engine.streams[0].push(UNSURE)
    assert (await asked.run.answer.completion()).text == "right"


async def test_what_never_came_whole_ends_with_its_deadline() -> None:
    asked = Asked(Engine(), snr_db=-15.0, deadline_s=0.05)
    with pytest.raises(DeadlineExpiredError):
        await asked.run.answer.completion()


@pytest.mark.parametrize("waits", [True, False])
async def test_a_cancel_frees_what_is_held_whether_it_computes_or_waits(waits: bool) -> None:
    engine = Engine()
    asked = Asked(engine)
    over: list[bool] = []
    asked.run.when_over(lambda: over.append(True))
    if waits:
        engine.streams[0].push(UNSURE)
        await asked.until_wanted()
    asked.run.answer.cancel()
    with pytest.raises(QuestionCancelledError):
        await asked.run.answer.completion()
    assert engine.cancelled == (0 if waits else 1)
    assert over == [True]
    assert asked.run.received == {}
    assert [wanted async for wanted in asked.run.requests()] == []


async def test_a_full_engine_refuses_a_question_in_rounds_as_any_other() -> None:
    engine = Engine()
    engine.full = True
    with pytest.raises(EngineOverloadedError):
        Asked(engine)
