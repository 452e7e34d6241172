"""An engine from outside the package: one file and its registration, and both doors open on it."""

from __future__ import annotations

import httpx
import pytest

from edge_server.engine import AnswerStream, Completion, EngineStatus, Model, Priority, Request, registry
from edge_server.engine.registry import EngineParts, register_engine
from edge_server.errors import ConfigurationError
from edge_server.server.app import Server
from edge_server.server.config import ServerConfig
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.contract.conftest import Running
from tests.weightless import BUNDLE_HASH


class Parrot:
    """Answers at once, with how long the question was; knows nothing of batches or threads."""

    def __init__(self, parts: EngineParts) -> None:
        self.model: Model = parts.model
        self.retry_delay_s = 1.0
        self.status = EngineStatus(ready=False, draining=False)
        self.admitted: list[Priority] = []

    def admit(self, user: str, priority: Priority = "interactive") -> None:
        self.admitted.append(priority)

    def submit(self, request: Request) -> AnswerStream:
        positions = self.model.check(request.prompt)
        stream = AnswerStream(lambda: None)
        text = f"{len(request.prompt.question_ids)} words, polly"
        stream.push(Completion(text, 1.0, positions, 1, 0.0, 0.0, "stop"))
        return stream

    async def start(self) -> None:
        self.status = EngineStatus(ready=True, draining=False)

    async def drain(self) -> None:
        self.status = EngineStatus(ready=True, draining=True)

    async def stop(self) -> None:
        self.status = EngineStatus(ready=False, draining=True)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_engines", dict(registry._engines))
    register_engine("parrot", Parrot)


@pytest.fixture
def settings(registered: None) -> dict[str, object]:
    return {"engine_kind": "parrot"}


async def test_it_answers_over_both_doors_and_knows_each_priority(running: Running) -> None:
    async with httpx.AsyncClient(base_url=running.addresses.rest) as client:
        asked = {"question": "abc", "priority": "background"}
        assert (await client.post("/v1/infer", json=asked)).json()["answer"] == "3 words, polly"
        assert (await client.get("/readyz")).json()["status"] == "ready"
    opened = await running.stub.OpenSession(
        pb.OpenSessionRequest(device_id="camera", bundle_hash=BUNDLE_HASH, snr_db=10.0)
    )
    question = pb.Question(request_id="q", question_ids=[1, 2], priority=pb.PRIORITY_BACKGROUND)
    call = running.stub.Ask(
        pb.AskRequest(session_id=opened.session_id, bundle_hash=BUNDLE_HASH, question=question)
    )
    frames = [frame async for frame in call]
    assert frames[-1].answer.text == "2 words, polly"
    engine = running.server.engine
    assert isinstance(engine, Parrot)
    assert engine.admitted == ["background", "background"]


async def test_an_engine_that_nobody_brought_is_a_setting_at_fault(running: Running) -> None:
    config = ServerConfig.model_validate({"engine_kind": "cuckoo", "grpc_port": 0, "rest_port": 0})
    with pytest.raises(ConfigurationError, match="engine_kind is 'cuckoo'; there are: batching, parrot"):
        Server(config, running.server.backends.current.served)


def test_a_name_is_given_once() -> None:
    register_engine("parrot", Parrot)
    with pytest.raises(ValueError, match="already"):
        register_engine("parrot", lambda parts: Parrot(parts))
