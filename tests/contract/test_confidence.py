"""How sure an answer is, and that it is held back, at every door; an older client is told in the text."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import grpc.aio
import httpx
import numpy as np
import pytest

from device_agent.cli.show import sure_line
from device_agent.outcome import Prepared, outcome_of
from device_agent.uplink.sane import sane_answer
from device_agent.uplink.session import Reply
from edge_server.engine.calibration import Calibration
from edge_server.frontdoor.backend import Served
from edge_server.frontdoor.ports import LinkShape
from edge_server.server.app import Server
from edge_server.server.config import ServerConfig
from edge_server.server.ingest import MediaIngest
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from protos.tokenlink.v1.tokenlink_pb2_grpc import TokenLinkStub
from tests.weightless import BUNDLE_HASH, CHANNEL_DIM, WeightlessModel, WeightlessTransmitter

UNSURE, SURE = "left", "1"
"""A token says a byte, with probability 0.5 each: the longer of two answers is the less sure."""
CALIBRATION = Calibration(scale=1.0, offset=0.0, threshold=0.3, longest=4)


@pytest.fixture
def below() -> float | None:
    return None


@pytest.fixture
async def doors(below: float | None) -> AsyncIterator[tuple[httpx.AsyncClient, TokenLinkStub]]:
    model = WeightlessModel()
    model.answer = lambda prompt: UNSURE if len(prompt.question_ids) > 1 else SURE
    ingest = MediaIngest(
        WeightlessTransmitter(),  # type: ignore[arg-type]
        token_length=16,
        limits=None,  # type: ignore[arg-type]
        threads=1,
        max_pending=8,
        rng=np.random.default_rng(1),
    )
    served = Served(
        model=model,
        runner_of=lambda _: model,
        ingest=ingest,
        shape=LinkShape(CHANNEL_DIM, 96),
        token_lengths=(16,),
        calibration=CALIBRATION,
    )
    settings = {"grpc_port": 0, "rest_port": 0, "batches": 1, "engine": {"abstain_below": below}}
    server = Server(ServerConfig.model_validate(settings), served)
    addresses = await server.start()
    async with (
        httpx.AsyncClient(base_url=addresses.rest, headers={"Host": "localhost"}) as client,
        grpc.aio.insecure_channel(addresses.grpc) as channel,
    ):
        yield client, TokenLinkStub(channel)
    await server.stop()
    ingest.close()


Doors = tuple[httpx.AsyncClient, TokenLinkStub]


async def answered(stub: TokenLinkStub, ids: list[int]) -> pb.Answer:
    opened = await stub.OpenSession(pb.OpenSessionRequest(device_id="d", bundle_hash=BUNDLE_HASH))
    question = pb.Question(request_id=f"q{len(ids)}", question_ids=ids)
    request = pb.AskRequest(session_id=opened.session_id, bundle_hash=BUNDLE_HASH, question=question)
    frames = [frame async for frame in stub.Ask(request)]
    said = "".join(frame.delta.text for frame in frames)
    assert said == frames[-1].answer.text
    return frames[-1].answer


async def test_an_answer_that_is_held_back_says_so_over_rest(doors: Doors) -> None:
    client, _ = doors
    body = (await client.post("/v1/infer", json={"question": "ab"})).json()
    assert (body["answer"], body["abstained"], body["guess"]) == ("not sure", True, UNSURE)
    assert body["confidence"] == pytest.approx(0.5**4)
    body = (await client.post("/v1/infer", json={"question": "a"})).json()
    assert (body["answer"], body["abstained"], body["guess"]) == (SURE, False, None)
    assert body["confidence"] == pytest.approx(0.5)


@pytest.mark.parametrize("below", [0.0])
async def test_a_threshold_of_0_holds_nothing_back(doors: Doors) -> None:
    client, _ = doors
    body = (await client.post("/v1/infer", json={"question": "ab"})).json()
    assert (body["answer"], body["abstained"]) == (UNSURE, False)
    assert body["confidence"] == pytest.approx(0.5**4)


async def test_openai_s_clients_read_it_in_the_content(doors: Doors) -> None:
    client, _ = doors
    asked = {"model": "weightless", "messages": [{"role": "user", "content": "ab"}], "logprobs": True}
    whole = (await client.post("/v1/chat/completions", json=asked)).json()
    (choice,) = whole["choices"]
    assert choice["message"]["content"] == "not sure"
    assert choice["assurance"] == {"confidence": pytest.approx(0.0625), "abstained": True, "guess": UNSURE}
    assert choice["logprobs"]["content"] == []
    streamed = await client.post("/v1/chat/completions", json={**asked, "stream": True})
    lines = [line.removeprefix("data: ") for line in streamed.text.splitlines() if "{" in line]
    choices = [choice for line in lines for choice in json.loads(line)["choices"]]
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == "not sure"
    assert choices[-1]["assurance"] == choice["assurance"]
    assert all("assurance" not in choice for choice in choices[:-1])


async def test_it_stands_in_a_response_and_in_the_last_of_its_events(doors: Doors) -> None:
    client, _ = doors
    asked = {"model": "weightless", "input": "ab", "include": ["message.output_text.logprobs"]}
    whole = (await client.post("/v1/responses", json=asked)).json()
    (part,) = whole["output"][0]["content"]
    assert (part["text"], part["logprobs"]) == ("not sure", [])
    assert whole["assurance"] == {"confidence": pytest.approx(0.0625), "abstained": True, "guess": UNSURE}
    streamed = await client.post("/v1/responses", json={**asked, "stream": True})
    told = [json.loads(line[6:]) for line in streamed.text.splitlines() if line.startswith("data: ")]
    assert "".join(each["delta"] for each in told if "delta" in each) == "not sure"
    assert told[-1]["response"]["assurance"] == whole["assurance"]
    assert told[0]["response"]["assurance"] is None


async def test_devices_are_told_and_show_it(doors: Doors) -> None:
    _, stub = doors
    answer = sane_answer(await answered(stub, [1, 2]))
    assert (answer.text, answer.abstained, answer.guess) == ("not sure", True, UNSURE)
    outcome = outcome_of(Prepared(pb.Question(), 16, 0.0), Reply(answer, 0, 0.0, 1), "weightless")
    assert sure_line(outcome) == "held back: left, confidence 0.06"
    told = outcome.to_json()
    assert (told["abstained"], told["guess"], told["confidence"]) == (True, UNSURE, pytest.approx(0.0625))
    sure = outcome_of(
        Prepared(pb.Question(), 16, 0.0), Reply(await answered(stub, [1]), 0, 0.0, 1), "weightless"
    )
    assert sure_line(sure) == "confidence 0.50"
