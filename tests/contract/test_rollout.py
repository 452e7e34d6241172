"""A new model takes over while devices run the bundle of the old one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import grpc.aio
import httpx
import pytest

from edge_server.engine import Delta
from edge_server.engine.canary import Canary, CanaryError
from edge_server.frontdoor.backend import Served
from edge_server.frontdoor.http.asking import Asker, RestQuestion
from edge_server.frontdoor.ports import BundleArchive, LinkShape
from edge_server.server import rollout
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.contract.conftest import SMALL_BUNDLE_HASH, Running
from tests.waiting import turns
from tests.weightless import BUNDLE_HASH, CHANNEL_DIM, WeightlessModel

NEW_HASH, NEW_SMALL_HASH = "cd" * 32, "34" * 32


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "_LOOK_S", 0.01)


@pytest.fixture
def new_model() -> WeightlessModel:
    return WeightlessModel(answer=lambda prompt: "new", name="newer", bundle_hash=NEW_HASH)


@pytest.fixture
def served(running: Running, new_model: WeightlessModel, tmp_path: Path) -> Served:
    running.server._rollout._settle_s = 0.05
    archive = tmp_path / "new.tar"
    archive.write_bytes(b"new bundle")
    closed: list[bool] = []
    made = Served(
        model=new_model,
        runner_of=lambda _: new_model,
        ingest=running.server.backends.current.served.ingest,
        shape=LinkShape(CHANNEL_DIM, 96),
        token_lengths=(1, 2, 4),
        bundles=(BundleArchive(NEW_HASH, archive), BundleArchive(NEW_SMALL_HASH, archive, "int8")),
        close=lambda: closed.append(True),
    )
    return made


async def opened(running: Running, device_id: str, bundle_hash: str) -> pb.OpenSessionResponse:
    return await running.stub.OpenSession(
        pb.OpenSessionRequest(device_id=device_id, bundle_hash=bundle_hash, snr_db=10.0)
    )


async def answer(running: Running, session_id: str, bundle_hash: str, request_id: str) -> str:
    question = pb.Question(request_id=request_id, question_ids=[1, 2, 3])
    call = running.stub.Ask(pb.AskRequest(session_id=session_id, bundle_hash=bundle_hash, question=question))
    return [frame async for frame in call][-1].answer.text


async def test_both_bundles_are_answered_for_each_by_its_own_model(running: Running, served: Served) -> None:
    old = await opened(running, "camera", BUNDLE_HASH)
    assert old.current_bundle_hash == BUNDLE_HASH
    await running.server.replace(served)
    new = await opened(running, "car", NEW_HASH)
    assert (new.model_name, new.grant.max_token_length) == ("newer", 4)
    assert await answer(running, old.session_id, BUNDLE_HASH, "q1") == "3"
    assert await answer(running, new.session_id, NEW_HASH, "q1") == "new"


@pytest.mark.parametrize(("runs", "told"), [(BUNDLE_HASH, NEW_HASH), (SMALL_BUNDLE_HASH, NEW_SMALL_HASH)])
async def test_a_device_with_the_old_bundle_is_told_the_new_one_of_its_precision(
    running: Running, served: Served, runs: str, told: str
) -> None:
    await opened(running, "camera", runs)
    await running.server.replace(served)
    assert (await opened(running, "camera", runs)).current_bundle_hash == told
    chunks = [chunk async for chunk in running.stub.GetBundle(pb.GetBundleRequest(bundle_hash=told))]
    assert b"".join(chunk.data for chunk in chunks) == b"new bundle"


async def test_a_visitor_of_the_page_asks_either_while_both_are_served(
    running: Running, served: Served
) -> None:
    server = running.server
    asker = Asker(server.cell, server.backends, server.metrics, server.desk)
    await opened(running, "camera", BUNDLE_HASH)
    assert len(asker.backends) == 1
    await server.replace(served)
    new, old = asker.backends
    assert (new.model.name, new is asker.backend) == ("newer", True)
    said = []
    for backend in (None, new, old):
        asked = await asker.ask(RestQuestion(text="what is there", user="visitor", backend=backend))
        said.append((asked.model, "".join([e.text async for e in asked.stream if isinstance(e, Delta)])))
    assert [model for model, _ in said] == ["newer", "newer", old.model.name]
    assert said[0] == said[1] == ("newer", "new")
    assert said[2][1] != "new"


async def test_the_old_model_goes_when_its_last_device_has_moved_on(running: Running, served: Served) -> None:
    old_backend = running.server.backends.current
    old = await opened(running, "camera", BUNDLE_HASH)
    await running.server.replace(served)
    await turns(100)
    assert list(running.server.backends)[1:] == [old_backend]
    moved = await opened(running, "camera", NEW_HASH)
    assert moved.session_id == old.session_id
    await running.until(lambda: len(list(running.server.backends)) == 1)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await opened(running, "late", BUNDLE_HASH)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert NEW_HASH in (refused.value.details() or "")


async def test_a_question_that_the_old_model_has_accepted_is_answered_by_it(
    running: Running, served: Served
) -> None:
    running.model.gate.close()
    old = await opened(running, "camera", BUNDLE_HASH)
    asking = asyncio.create_task(answer(running, old.session_id, BUNDLE_HASH, "q1"))
    await running.until(lambda: running.server.engine.running == 1)
    await running.server.replace(served)
    await opened(running, "camera", NEW_HASH)
    await turns(100)
    running.model.gate.open()
    assert await asking == "3"
    await running.until(lambda: len(list(running.server.backends)) == 1)


@pytest.mark.parametrize("settings", [{"old_model_s": 0.1}])
async def test_devices_that_do_not_move_on_are_not_waited_for_for_ever(
    running: Running, served: Served
) -> None:
    old_backend = running.server.backends.current
    await opened(running, "camera", BUNDLE_HASH)
    await running.server.replace(served)
    await running.until(lambda: len(list(running.server.backends)) == 1)
    assert running.server.backends.current is not old_backend
    with pytest.raises(grpc.aio.AioRpcError, match=NEW_HASH):
        await opened(running, "late", BUNDLE_HASH)


@pytest.mark.parametrize("settings", [{"old_models": 2}])
async def test_so_many_old_models_are_kept_and_the_oldest_goes(
    running: Running, served: Served, new_model: WeightlessModel
) -> None:
    first = running.server.backends.current
    ended: list[str] = []
    await opened(running, "camera", BUNDLE_HASH)
    for number in range(5):
        bundle_hash = f"{number:02x}" * 32
        model = replace(new_model, bundle_hash=bundle_hash)
        made = replace(
            served,
            model=model,
            runner_of=lambda _, model=model: model,  # type: ignore[misc]
            bundles=(replace(served.bundles[0], bundle_hash=bundle_hash),),
            digest=str(number),
            close=lambda number=number: ended.append(str(number)),  # type: ignore[misc]
        )
        await running.server.replace(made)
        # A device of each keeps it from going by itself.
        await opened(running, f"camera-{number}", bundle_hash)
        assert len(list(running.server.backends)) <= 3
    assert running.server.backends.current.served.digest == "4"
    assert first not in list(running.server.backends)
    assert ended == ["0", "1"]


def canary(answer: str) -> Canary:
    return Canary.of(1, {"video": (4, CHANNEL_DIM)}, [1, 2, 3], answer)


async def test_a_model_that_fails_its_canaries_is_never_served(
    running: Running, served: Served, new_model: WeightlessModel
) -> None:
    closed: list[bool] = []
    refused = replace(served, canaries=(canary("old"),), close=lambda: closed.append(True))
    before = running.server.backends.current
    with pytest.raises(CanaryError, match="'new', known is 'old'"):
        await running.server.replace(refused)
    assert list(running.server.backends) == [before]
    assert closed == [True]


async def test_a_model_that_fails_them_once_it_is_current_is_rolled_back(
    running: Running, served: Served, new_model: WeightlessModel
) -> None:
    before = running.server.backends.current
    await running.server.replace(replace(served, canaries=(canary("new"),)))
    moved = await opened(running, "camera", NEW_HASH)
    assert await answer(running, moved.session_id, NEW_HASH, "q1") == "new"
    new_model.answer = lambda prompt: "garbage"
    await running.until(lambda: list(running.server.backends) == [before])
    back = await opened(running, "camera", BUNDLE_HASH)
    assert await answer(running, back.session_id, BUNDLE_HASH, "q2") == "3"


async def test_new_weights_behind_the_same_bundle_take_over(
    running: Running, served: Served, new_model: WeightlessModel
) -> None:
    old = await opened(running, "camera", BUNDLE_HASH)
    new_model.bundle_hash = BUNDLE_HASH
    await running.server.replace(replace(served, bundles=(), canaries=(canary("new"),), digest="22"))
    assert running.server.backends.current.served.digest == "22"
    assert await answer(running, old.session_id, BUNDLE_HASH, "q1") == "new"
    await running.until(lambda: len(list(running.server.backends)) == 1)
    assert await answer(running, old.session_id, BUNDLE_HASH, "q2") == "new"


async def test_rest_is_answered_by_the_current_model(running: Running, served: Served) -> None:
    async with httpx.AsyncClient(base_url=running.addresses.rest) as client:
        asked = {"question": "what?"}
        assert (await client.post("/v1/infer", json=asked)).json()["bundle_hash"] == BUNDLE_HASH
        await running.server.replace(served)
        reply = (await client.post("/v1/infer", json=asked)).json()
        assert (reply["answer"], reply["bundle_hash"], reply["model"]) == ("new", NEW_HASH, "newer")
        assert (await client.get("/readyz")).json()["bundle_hash"] == NEW_HASH
        assert [card["id"] for card in (await client.get("/v1/models")).json()["data"]] == ["newer"]
