"""Several models of one server: each is asked by its name, or by the bundle that a device runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import grpc.aio
import httpx
import numpy as np
import pytest

from device_agent.media.limits import MediaLimits
from edge_server.errors import ConfigurationError
from edge_server.frontdoor.backend import Served
from edge_server.frontdoor.ports import BundleArchive, LinkShape
from edge_server.server import rollout
from edge_server.server.ingest import MediaIngest
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.contract.conftest import Running
from tests.waiting import until
from tests.weightless import BUNDLE_HASH, CHANNEL_DIM, WeightlessModel, WeightlessTransmitter

OTHER_HASH, LATER_HASH = "ef" * 32, "fe" * 32
NAMES = ("weightless", "other")


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Served]:
    archive = tmp_path / "other.tar"
    archive.write_bytes(b"other bundle")
    model = WeightlessModel(answer=lambda prompt: "other says", name="other", bundle_hash=OTHER_HASH)
    ingest = MediaIngest(
        WeightlessTransmitter(),  # type: ignore[arg-type]
        token_length=4,
        limits=MediaLimits(),
        threads=1,
        max_pending=4,
        rng=np.random.default_rng(2),
    )
    yield Served(
        model=model,
        runner_of=lambda _: model,
        ingest=ingest,
        shape=LinkShape(CHANNEL_DIM, 96),
        token_lengths=(4,),
        bundles=(BundleArchive(OTHER_HASH, archive),),
    )
    ingest.close()


@pytest.fixture
def beside(other: Served) -> Sequence[Served]:
    return (other,)


@pytest.fixture
async def rest(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=running.addresses.rest) as client:
        yield client


async def test_rest_asks_the_one_that_is_named_or_the_first(rest: httpx.AsyncClient) -> None:
    for model, told in (("other", "other"), ("", NAMES[0]), (NAMES[0], NAMES[0])):
        body = {"question": "what is it", **({"model": model} if model else {})}
        answered = (await rest.post("/v1/infer", json=body)).json()
        assert answered["model"] == told, answered
        assert (answered["answer"] == "other says") == (told == "other")
    refused = await rest.post("/v1/infer", json={"question": "what is it", "model": "third"})
    assert refused.status_code == 404
    assert refused.json()["error"]["param"] == "model"
    assert "'third'" in refused.json()["error"]["message"]
    assert "'weightless' and 'other' are" in refused.json()["error"]["message"]


async def test_the_openai_door_lists_and_asks_both(rest: httpx.AsyncClient) -> None:
    listed = (await rest.get("/v1/models")).json()["data"]
    assert [card["id"] for card in listed] == list(NAMES)
    assert (await rest.get("/v1/models/other")).status_code == 200
    body = {"model": "other", "messages": [{"role": "user", "content": "what is it"}]}
    answered = (await rest.post("/v1/chat/completions", json=body)).json()
    assert answered["model"] == "other"
    assert answered["choices"][0]["message"]["content"] == "other says"


async def test_a_device_is_answered_by_the_model_of_its_bundle_and_told_to_keep_it(running: Running) -> None:
    opened = await running.stub.OpenSession(
        pb.OpenSessionRequest(device_id="camera", bundle_hash=OTHER_HASH, snr_db=10.0)
    )
    assert (opened.model_name, opened.current_bundle_hash) == ("other", OTHER_HASH)
    assert opened.grant.max_token_length == 4
    call = running.stub.Ask(
        pb.AskRequest(
            session_id=opened.session_id,
            bundle_hash=OTHER_HASH,
            question=pb.Question(request_id="q", question_ids=[1, 2]),
        )
    )
    assert [frame async for frame in call][-1].answer.text == "other says"


@pytest.mark.parametrize(("named", "told"), [("", BUNDLE_HASH), ("other", OTHER_HASH)])
async def test_a_bundle_is_fetched_by_its_model(running: Running, named: str, told: str) -> None:
    chunks = [chunk async for chunk in running.stub.GetBundle(pb.GetBundleRequest(model=named))]
    assert chunks[0].bundle_hash == told


async def test_no_bundle_of_a_model_that_is_not_there(running: Running) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        [chunk async for chunk in running.stub.GetBundle(pb.GetBundleRequest(model="third"))]
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert "'weightless' and 'other' are" in (caught.value.details() or "")


async def test_each_is_replaced_in_its_own_line(
    running: Running, other: Served, rest: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout, "_LOOK_S", 0.01)
    running.server._rollout._settle_s = 0.05
    later = WeightlessModel(answer=lambda prompt: "later", name="other", bundle_hash=LATER_HASH)
    newer = replace(
        other,
        model=later,
        runner_of=lambda _: later,
        bundles=(replace(other.bundles[0], bundle_hash=LATER_HASH),),
    )
    first, second = running.server.backends.newest
    await running.server.replace(newer, second)
    assert [backend.bundle_hashes[0] for backend in running.server.backends.newest] == [
        first.bundle_hashes[0],
        LATER_HASH,
    ]
    opened = await running.stub.OpenSession(
        pb.OpenSessionRequest(device_id="camera", bundle_hash=OTHER_HASH, snr_db=10.0)
    )
    assert opened.current_bundle_hash == LATER_HASH
    await running.stub.CloseSession(pb.CloseSessionRequest(session_id=opened.session_id))
    await until(lambda: len(list(running.server.backends)) == 2)
    answered = (await rest.post("/v1/infer", json={"question": "x", "model": "other"})).json()
    assert answered["answer"] == "later"
    closed: list[bool] = []
    with pytest.raises(ConfigurationError, match="beside: two models are called 'other'"):
        await running.server.replace(replace(newer, close=lambda: closed.append(True)))
    assert closed == [True]


async def test_ready_is_degraded_where_one_beside_is_not(running: Running, rest: httpx.AsyncClient) -> None:
    assert (await rest.get("/readyz")).json()["status"] == "ready"
    await running.server.backends.newest[1].engine.stop()
    told = await rest.get("/readyz")
    assert (told.status_code, told.json()["status"]) == (200, "degraded")
