"""Whose file is decoded next."""

from __future__ import annotations

import asyncio
import base64
import threading

import numpy as np
import pytest

from device_agent.media.limits import MediaLimits
from edge_server.errors import AdmissionRefusedError
from edge_server.frontdoor.ports import LinkSettings, RawMedia
from edge_server.server.ingest import MediaIngest
from edge_server.server.turns import Turns
from tests.hostile_media import wav
from tests.waiting import PATIENCE_S, turns
from tests.weightless import WeightlessTransmitter


async def begun(places: Turns, *users: str) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(places.take(user)) for user in users]
    await turns(2)
    return tasks


def have(tasks: list[asyncio.Task[None]]) -> list[bool]:
    return [task.done() for task in tasks]


async def test_one_user_has_all_places_but_the_one_for_others() -> None:
    places = Turns(2)
    one = await begun(places, "a", "a", "a")
    assert have(one) == [True, True, False]
    (other,) = await begun(places, "b")
    assert other.done()
    (third,) = await begun(places, "c")
    assert not third.done()
    places.give("b")
    await turns(2)
    # The line before it is of a user that has its part.
    assert third.done()
    assert have(one) == [True, True, False]
    places.give("a")
    places.give("c")
    await turns(2)
    assert have(one) == [True, True, True]


async def test_lines_are_called_in_turn() -> None:
    places = Turns(1)
    await begun(places, "a", "b")
    order: list[str] = []

    async def wait(user: str) -> None:
        await places.take(user)
        order.append(user)
        places.give(user)

    waiting = [asyncio.create_task(wait(user)) for user in ("a", "a", "a", "b", "c", "b")]
    await turns(2)
    places.give("a")
    places.give("b")
    await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE_S)
    assert order[:3] in (["a", "b", "c"], ["b", "a", "c"], ["c", "a", "b"], ["a", "c", "b"])


async def test_who_goes_away_while_waiting_takes_nothing() -> None:
    places = Turns(1)
    await begun(places, "a", "x")
    gone, waits = await begun(places, "b", "b")
    gone.cancel()
    await turns(2)
    places.give("x")
    await turns(2)
    assert waits.done()
    # Called and gone in the same moment: the place goes on.
    (called,) = await begun(places, "c")
    places.give("b")
    called.cancel()
    await turns(3)
    (last,) = await begun(places, "d")
    assert last.done()


@pytest.fixture
def ingest() -> object:
    made = MediaIngest(
        WeightlessTransmitter(),  # type: ignore[arg-type]
        token_length=16,
        limits=MediaLimits(),
        threads=1,
        max_pending=4,
        max_pending_of_one=2,
        rng=np.random.default_rng(1),
    )
    yield made
    made.close()


def sound() -> RawMedia:
    return RawMedia("audio", base64.b64encode(wav(16_000, 1, 1600)).decode(), "media[0]")


async def test_words_wait_for_no_file_and_one_user_fills_no_line(ingest: MediaIngest) -> None:
    held = threading.Event()
    for _ in range(2):
        ingest._pool.submit(held.wait, PATIENCE_S)
    link = LinkSettings()
    files = [asyncio.create_task(ingest.prepare((sound(),), "ab", "", link, "a")) for _ in range(2)]
    await turns(2)
    with pytest.raises(AdmissionRefusedError) as refused:
        await ingest.prepare((sound(),), "ab", "", link, "a")
    assert refused.value.reason == "ingest"
    assert refused.value.retry_delay_s > 0
    words = await asyncio.wait_for(ingest.prepare((), "ab", "", link, "a"), PATIENCE_S)
    assert words.question_ids == (97, 98)
    other = asyncio.create_task(ingest.prepare((sound(),), "ab", "", link, "b"))
    await turns(2)
    assert not any(have([*files, other]))  # type: ignore[list-item]
    held.set()
    made = await asyncio.wait_for(asyncio.gather(*files, other), PATIENCE_S)
    assert [len(each.blocks) for each in made] == [1, 1, 1]
