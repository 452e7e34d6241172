"""Questions that nobody waits for come after those that somebody waits for, through either door."""

from __future__ import annotations

import asyncio

import grpc.aio
import httpx
import pytest

from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.contract.conftest import Running
from tests.waiting import PATIENCE_S
from tests.weightless import BUNDLE_HASH


@pytest.fixture
def settings() -> dict[str, object]:
    return {"max_batch": 1}


async def waiting(running: Running, count: int) -> None:
    await running.until(lambda: running.server.engine.unanswered == count)


async def test_over_grpc(running: Running) -> None:
    opened = await running.stub.OpenSession(
        pb.OpenSessionRequest(device_id="camera", bundle_hash=BUNDLE_HASH, snr_db=10.0)
    )
    running.model.gate.close()
    answered: list[str] = []

    async def ask(request_id: str, priority: pb.Priority) -> None:
        asked = pb.Question(request_id=request_id, question_ids=[1, 2], priority=priority)
        call = running.stub.Ask(
            pb.AskRequest(session_id=opened.session_id, bundle_hash=BUNDLE_HASH, question=asked)
        )
        frames = [frame async for frame in call]
        assert frames[-1].answer.text == "2"
        answered.append(request_id)

    async with asyncio.TaskGroup() as asking:
        for count, (request_id, priority) in enumerate(
            [
                ("running", pb.PRIORITY_UNSPECIFIED),
                ("background", pb.PRIORITY_BACKGROUND),
                ("interactive", pb.PRIORITY_INTERACTIVE),
                ("unspecified", pb.PRIORITY_UNSPECIFIED),
            ]
        ):
            asking.create_task(ask(request_id, priority))
            await waiting(running, count + 1)
        running.model.gate.open()
    assert answered == ["running", "interactive", "unspecified", "background"]


async def test_over_rest(running: Running) -> None:
    running.model.gate.close()
    answered: list[str] = []
    async with httpx.AsyncClient(base_url=running.addresses.rest) as client, asyncio.TaskGroup() as asking:

        async def ask(name: str, priority: str) -> None:
            response = await client.post("/v1/infer", json={"question": "ab", "priority": priority})
            assert response.json()["answer"] == "2", response.text
            answered.append(name)

        for count, (name, priority) in enumerate(
            [("running", "interactive"), ("background", "background"), ("interactive", "interactive")]
        ):
            asking.create_task(ask(name, priority))
            await waiting(running, count + 1)
        running.model.gate.open()
    assert answered == ["running", "interactive", "background"]


@pytest.mark.parametrize("settings", [{"max_batch": 1, "max_queue": 1, "max_queue_per_user": 1}])
async def test_a_full_queue_of_background_makes_room_for_interactive_at_either_door(running: Running) -> None:
    """Admission asks with the question's own priority: background is refused, interactive evicts."""
    running.model.gate.close()
    async with (
        httpx.AsyncClient(base_url=running.addresses.rest, timeout=PATIENCE_S) as client,
        asyncio.TaskGroup() as asking,
    ):

        def ask(user: str, priority: str) -> asyncio.Task[httpx.Response]:
            body = {"question": "ab", "priority": priority, "user": user}
            return asking.create_task(client.post("/v1/infer", json=body))

        running_one = ask("a", "interactive")
        await running.until(lambda: running.server.engine.running == 1)
        evicted = ask("b", "background")
        await running.until(lambda: running.server.engine.waiting == 1)
        assert (await ask("c", "background")).status_code == 429
        accepted = ask("d", "interactive")
        assert (await evicted).status_code == 429
        opened = await running.stub.OpenSession(
            pb.OpenSessionRequest(device_id="camera", bundle_hash=BUNDLE_HASH, snr_db=10.0)
        )
        question = pb.Question(request_id="q", question_ids=[1, 2], priority=pb.PRIORITY_BACKGROUND)
        call = running.stub.Ask(
            pb.AskRequest(session_id=opened.session_id, bundle_hash=BUNDLE_HASH, question=question)
        )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            _ = [frame async for frame in call]
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        running.model.gate.open()
        assert [(await each).status_code for each in (running_one, accepted)] == [200, 200]
