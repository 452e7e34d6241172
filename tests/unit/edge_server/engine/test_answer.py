from __future__ import annotations

import asyncio

import pytest

from edge_server.engine import AnswerStream, Completion, Delta, Event
from edge_server.engine.answer import merged
from edge_server.errors import EngineFailureError
from tests.waiting import until

ANSWER = Completion("yes", 0.5, 10, 1, 0.0, 0.0, "stop")


def streams(count: int) -> list[AnswerStream]:
    return [AnswerStream(lambda: None) for _ in range(count)]


async def test_several_answers_are_told_as_they_come() -> None:
    first, second = streams(2)
    found: list[tuple[int, Event]] = []

    async def read() -> None:
        async for pair in merged([first, second]):
            found.append(pair)

    reading = asyncio.create_task(read())
    second.push(Delta("b"))
    await until(lambda: bool(found))
    first.push(Delta("a"))
    second.push(ANSWER)
    first.push(ANSWER)
    await reading
    assert sorted(number for number, _ in found) == [0, 0, 1, 1]
    for number in (0, 1):
        assert [type(event) for n, event in found if n == number] == [Delta, Completion]


async def test_one_that_fails_ends_all_and_nobody_goes_on_reading() -> None:
    first, second = streams(2)
    first.push(Delta("a"))
    second.fail(EngineFailureError("broken"))
    before = asyncio.all_tasks()
    with pytest.raises(EngineFailureError, match="broken"):
        [pair async for pair in merged([first, second])]
    assert asyncio.all_tasks() == before
