"""Delivering from an outbox, and what a question may go by while nobody can be asked."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from device_agent.errors import ConfigurationError, ServerUnreachableError
from device_agent.outbox.outbox import Outbox
from device_agent.outbox.records import Delivery, NewQuestion
from device_agent.outbox.relay import Spooler, together
from device_agent.outbox.salvage import put_aside
from device_agent.outbox.sender import Troubles
from device_agent.outbox.store import Spool
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.waiting import PATIENCE_S, turns, until

USUAL = pb.Grant(token_length=8)
HEARD = pb.Grant(token_length=16)


@pytest.fixture
async def outbox(tmp_path: Path) -> AsyncIterator[Outbox]:
    async with Outbox(tmp_path / "outbox.db") as opened:
        yield opened


@pytest.fixture
def spooler(outbox: Outbox) -> Spooler:
    """One that has no uplink: it is never asked to send."""
    return Spooler(outbox, None, lambda *_: {}, Troubles())  # type: ignore[arg-type]


async def answered(outbox: Outbox, request_id: str) -> None:
    question = pb.Question(request_id=request_id, question_ids=[1])
    await outbox.call(Spool.put, NewQuestion(question, "s", "x", "ab" * 32))
    await outbox.call(Spool.answered, request_id, {"answer": request_id})


async def ends(task: asyncio.Task[None]) -> bool:
    """Whether a task ends when it is cancelled, once."""
    task.cancel()
    done, going_on = await asyncio.wait([task], timeout=PATIENCE_S)
    for lasting in going_on:
        lasting.cancel()
    return bool(done)


async def test_outcomes_are_shown_as_they_come(outbox: Outbox, spooler: Spooler) -> None:
    shown: asyncio.Queue[Delivery] = asyncio.Queue()
    delivering = asyncio.create_task(spooler.deliver("s", shown.put_nowait))
    for request_id in ("q1", "q2"):
        await answered(outbox, request_id)
        assert (await asyncio.wait_for(shown.get(), PATIENCE_S)).request_id == request_id
    # In the moment after a change.
    assert await ends(delivering)


@pytest.mark.parametrize("ticks", range(8))
async def test_delivering_ends_when_it_is_cancelled_whatever_happens_in_that_moment(
    outbox: Outbox, spooler: Spooler, ticks: int
) -> None:
    shown: list[Delivery] = []
    delivering = asyncio.create_task(spooler.deliver("s", shown.append))
    # It has looked, and waits for a change.
    await answered(outbox, "q0")
    await until(lambda: len(shown) == 1)
    await answered(outbox, "q1")
    await turns(ticks)
    assert await ends(delivering)
    # What counts as delivered was shown.
    delivered = [delivery.request_id for delivery in shown] + [
        delivery.request_id for delivery in await outbox.call(Spool.deliver, "s")
    ]
    assert delivered == ["q0", "q1"]


async def test_a_grant_is_the_servers_word_or_its_last_or_the_usual(outbox: Outbox, spooler: Spooler) -> None:
    async def says() -> pb.Grant:
        return HEARD

    async def silent() -> Any:
        spooler._troubles.say(ServerUnreachableError("nobody there"))
        await asyncio.Event().wait()

    async def refuses() -> Any:
        raise ConfigurationError("no")

    assert await spooler.grant(says, USUAL) == HEARD
    assert await spooler.grant(silent, USUAL) == USUAL
    # While there is trouble nobody is asked.
    assert await spooler.grant(refuses, USUAL) == USUAL
    await outbox.call(lambda spool: spool.file.take_note("grant", HEARD.SerializeToString()))
    assert await spooler.grant(refuses, USUAL) == HEARD
    spooler._troubles.over()
    with pytest.raises(ConfigurationError):
        await spooler.grant(refuses, USUAL)


async def test_trouble_is_said_once_until_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    troubles = Troubles()
    for _ in range(2):
        for number in range(3):
            troubles.say(ServerUnreachableError(f"nobody there {number}"))
        troubles.over()
    assert [record.args[0].args[0] for record in caplog.records] == ["nobody there 0"] * 2  # type: ignore[index, union-attr]


async def test_together_ends_with_the_first_and_raises_what_ended_it() -> None:
    ended: list[str] = []

    async def lasting() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("lasting")

    async def fails() -> None:
        await turns()
        raise ConfigurationError("no")

    with pytest.raises(ConfigurationError):
        await together(lasting(), fails())
    await together(lasting(), turns())
    assert ended == ["lasting"] * 2


async def test_an_outbox_that_breaks_at_work_is_mended_at_work(tmp_path: Path) -> None:
    path = tmp_path / "broken.db"
    async with Outbox(path) as outbox:
        await answered(outbox, "q1")
        broken = True

        def reads(spool: Spool) -> list[str]:
            nonlocal broken
            with spool.file.reading():
                if broken:
                    broken = False
                    error = sqlite3.DatabaseError("database disk image is malformed")
                    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
                    raise error
            return spool.sources()

        assert await outbox.call(reads) == ["s"]
    assert path.with_name("broken.db.damaged-1").exists()


async def test_a_file_that_another_process_put_aside_is_not_written_any_more(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    async with Outbox(path) as outbox, Outbox(path) as other:
        await answered(outbox, "q1")
        put_aside(path)
        await answered(other, "q2")
        await answered(outbox, "q3")
        assert (await other.call(Spool.counts))["answered"] == 2
