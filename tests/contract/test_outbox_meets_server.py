"""Outbox, uplink and server together: what is promised when links are cut and either side starts again."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from device_agent.errors import BundleMismatchError, OutboxFullError, RefusedError
from device_agent.outbox.outbox import Outbox
from device_agent.outbox.records import Bounds, Delivery, NewQuestion, Waiting
from device_agent.outbox.relay import Spooler, together
from device_agent.outbox.sender import GIVE_UPS, Flusher, RecordOf, Troubles
from device_agent.outbox.store import Spool
from device_agent.uplink.backoff import Backoff
from device_agent.uplink.session import Reply
from device_agent.uplink.uplink import Uplink
from edge_server.cell import answer_file
from edge_server.frontdoor.backend import Served
from edge_server.frontdoor.ports import LinkShape
from edge_server.server.app import Server
from edge_server.server.config import ServerConfig
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.contract.conftest import Running
from tests.contract.test_agent_meets_server import Relay
from tests.questions import question
from tests.waiting import PATIENCE_S, turns, until
from tests.weightless import BUNDLE_HASH, CHANNEL_DIM, State, WeightlessModel

QUICK = Backoff(retries=2**31, base_s=0.01, cap_s=0.05)


def record_of(item: Waiting, reply: Reply, model: str) -> dict[str, Any]:
    return {"answer": reply.answer.text, "tries": reply.tries, "model": model}


class Device:
    """An outbox and its spooler, which may be ended and started again over the same file."""

    def __init__(self, path: Path, address: str) -> None:
        self.path = path
        self.address = address
        self.shown: list[Delivery] = []
        self.bounds = Bounds()
        self.record_of: RecordOf = record_of

    @contextlib.asynccontextmanager
    async def on(self, bundle_hash: str = BUNDLE_HASH) -> AsyncIterator[Outbox]:
        """Sending and delivering; what ends them is raised at the end."""
        async with Outbox(self.path, self.bounds) as outbox:
            uplink = Uplink(
                self.address,
                bundle_hash,
                device_id=f"d-{outbox.device_key}",
                keep_session=True,
                backoff=QUICK,
            )
            async with uplink:
                spooler = Spooler(outbox, uplink, self.record_of, Troubles(), backoff=QUICK)
                working = asyncio.create_task(
                    together(spooler.send(), spooler.deliver("s", self.shown.append))
                )
                try:
                    yield outbox
                finally:
                    working.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await working

    async def until_shown(self, count: int) -> list[str]:
        await until(lambda: len(self.shown) >= count)
        return [delivery.request_id for delivery in self.shown]


def new(request_id: str, *ids: int, **fields: Any) -> NewQuestion:
    return NewQuestion(question(request_id, question_ids=ids or (1, 2), **fields), "s", "x", BUNDLE_HASH)


@pytest.fixture
def device(running: Running, tmp_path: Path) -> Device:
    return Device(tmp_path / "outbox.db", running.addresses.grpc)


async def test_questions_are_answered_in_order_and_acknowledged(running: Running, device: Device) -> None:
    running.model.answer = lambda prompt: "x" * prompt.question_ids[0]
    async with device.on() as outbox:
        for number in range(40):
            # The later ones have shorter answers: they come home first.
            await outbox.call(Spool.put, new(f"q{number}", 30 - number // 2))
        assert await device.until_shown(40) == [f"q{number}" for number in range(40)]
        assert [delivery.record["answer"] for delivery in device.shown] == [
            "x" * (30 - n // 2) for n in range(40)
        ]
        assert {delivery.record["model"] for delivery in device.shown} == {"weightless"}
        await running.until(lambda: len(running.server.answers) == 0)

        async def all_acknowledged() -> bool:
            return not await outbox.call(Spool.unacknowledged, 1)

        await until(all_acknowledged)
    assert sum(running.model.prefills) == 40


async def test_what_was_asked_offline_is_answered_by_the_next_process(device: Device) -> None:
    address, device.address = device.address, "127.0.0.1:1"
    async with device.on() as outbox:
        for number in range(5):
            await outbox.call(Spool.put, new(f"q{number}"))
    assert device.shown == []
    device.address = address
    async with device.on():
        assert await device.until_shown(5) == [f"q{number}" for number in range(5)]
    async with device.on() as outbox:
        # Answers are shown in order: what was shown once would come again before this one.
        await outbox.call(Spool.put, new("last"))
        assert (await device.until_shown(6))[5:] == ["last"]


async def test_an_answer_that_came_to_a_process_that_died_is_not_computed_again(
    running: Running, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = asyncio.Event()
    loop = asyncio.get_running_loop()

    def dies(self: Spool, request_id: str, record: object) -> bool:
        loop.call_soon_threadsafe(answered.set)
        raise OutboxFullError("this process dies before its answer is on the disk")

    with monkeypatch.context() as patched:
        patched.setattr(Spool, "answered", dies)
        async with device.on() as outbox:
            await outbox.call(Spool.put, new("q1"))
            await asyncio.wait_for(answered.wait(), PATIENCE_S)
    assert device.shown == []
    assert len(running.server.answers) == 1
    async with device.on():
        assert await device.until_shown(1) == ["q1"]
    assert sum(running.model.prefills) == 1


async def test_of_two_processes_with_one_outbox_one_sends_and_the_other_takes_over(
    running: Running, device: Device, tmp_path: Path
) -> None:
    second = Device(device.path, device.address)
    async with second.on() as theirs, device.on() as ours:
        assert theirs.lead()
        assert not ours.lead()
        await ours.call(Spool.put, new("q1"))
        await running.until(lambda: len(device.shown) + len(second.shown) == 1)
        theirs.stop_leading()
        assert ours.lead()
    assert running.server.cell.sessions == 1


async def test_two_agents_of_one_id_do_not_take_each_others_answers(running: Running) -> None:
    async with (
        Uplink(running.addresses.grpc, BUNDLE_HASH, device_id="twin", keep_session=True) as one,
        Uplink(running.addresses.grpc, BUNDLE_HASH, device_id="twin", keep_session=True) as other,
    ):
        running.model.answer = lambda prompt: str(prompt.question_ids[0])
        replies = await asyncio.gather(
            *(
                uplink.ask(question(f"{n}-{id(uplink)}", question_ids=[n + (uplink is other)]))
                for n in range(20)
                for uplink in (one, other)
            )
        )
        assert [reply.answer.text for reply in replies] == [
            str(n + second) for n in range(20) for second in (0, 1)
        ]
        await one.acknowledge([f"{n}-{id(one)}" for n in range(20)])
        await running.until(lambda: len(running.server.answers) == 20)
        # What is kept for the other is still there, and the going of one leaves it.
        await one.close()
        runs = sum(running.model.prefills)
        for n in range(20):
            again = question(f"{n}-{id(other)}", question_ids=[n + 1])
            assert (await other.ask(again)).answer.text == str(n + 1)
        assert sum(running.model.prefills) == runs
        with pytest.raises(RefusedError, match="another question"):
            await other.ask(question(f"3-{id(other)}", question_ids=[99]))


async def test_cut_links_lose_nothing_and_show_nothing_twice(running: Running, device: Device) -> None:
    running.model.answer = lambda prompt: f"{prompt.question_ids[0]}"
    async with Relay(running.addresses.grpc_port) as relay:
        device.address = relay.address
        async with device.on() as outbox:
            for number in range(60):
                await outbox.call(Spool.put, new(f"q{number}", number))
                if number % 6 == 0:
                    # At least one of these is answered; others are cut wherever they are.
                    await device.until_shown(number // 2)
                    relay.cut()
            assert await device.until_shown(60) == [f"q{number}" for number in range(60)]
    assert [delivery.record["answer"] for delivery in device.shown] == [str(n) for n in range(60)]


async def test_a_question_that_the_server_refuses_takes_its_turn_with_a_word(device: Device) -> None:
    async with device.on() as outbox:
        await outbox.call(Spool.put, new("good"))
        await outbox.call(Spool.put, new("bad", max_new_tokens=100_000))
        await outbox.call(Spool.put, new("large", *range(1, 900), context_ids=[2**31] * 60_000))
        await outbox.call(Spool.put, new("after"))
        await device.until_shown(4)
    outcomes = {delivery.request_id: delivery.outcome for delivery in device.shown}
    assert outcomes == {"good": "answered", "bad": "refused", "large": "refused", "after": "answered"}
    assert "max_new_tokens" in device.shown[1].record["error"]
    assert "granted" in device.shown[2].record["error"]


async def test_a_question_on_which_the_model_fails_is_given_up_after_a_while(
    running: Running, device: Device
) -> None:

    def fault(rows: State) -> None:
        if any(row.prompt.question_ids == (13,) for row in rows):
            raise RuntimeError("a poisoned row")

    running.model.prefill_fault = fault
    async with device.on() as outbox:
        await outbox.call(Spool.put, new("poison", 13))
        await outbox.call(Spool.put, new("good"))
        await device.until_shown(2)
    assert [delivery.outcome for delivery in device.shown] == ["failed", "answered"]
    assert f'tokenlink_questions_total{{outcome="failed"}} {GIVE_UPS}.0'.encode() in (
        running.server.metrics.exposition()
    )


async def test_a_question_that_was_dropped_under_way_is_taken_back(running: Running, device: Device) -> None:
    running.model.answer = lambda prompt: "x" * 20
    running.model.gate.close()
    async with device.on() as outbox:
        await outbox.call(Spool.put, new("q1"))
        await running.until(lambda: running.server.engine.running == 1)
        await outbox.call(Spool.end, "q1", "removed", "a user's word")
        await running.until(lambda: running.server.engine.unanswered == 0)
        assert await device.until_shown(1) == ["q1"]


async def test_another_bundle_ends_sending_and_leaves_what_waits(running: Running, device: Device) -> None:
    async with Outbox(device.path) as outbox:
        await outbox.call(Spool.put, new("q1"))
        async with Uplink(device.address, "cd" * 32, device_id="d") as uplink:
            with pytest.raises(BundleMismatchError):
                await Flusher(outbox, uplink, record_of, Troubles()).run()
        assert (await outbox.call(Spool.counts))["waiting"] == 1


async def test_what_was_made_with_a_bundle_that_is_gone_is_refused_and_the_rest_goes_on(
    device: Device,
) -> None:
    async with device.on() as outbox:
        old = NewQuestion(question("old"), "s", "x", "cd" * 32)
        await outbox.call(Spool.put, old)
        await outbox.call(Spool.put, new("new"))
        assert await device.until_shown(2) == ["old", "new"]
    assert [delivery.outcome for delivery in device.shown] == ["refused", "answered"]


async def test_a_full_disk_holds_an_answer_back_until_there_is_space(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    device.record_of = lambda *_: {"answer": "long" * 20_000}
    async with device.on() as outbox:
        (pages,) = await outbox.call(lambda spool: spool._db.execute("PRAGMA page_count").fetchone())
        # Room for a question, and not for its answer.
        await outbox.call(lambda spool: spool._db.execute(f"PRAGMA max_page_count = {pages + 1}"))
        await outbox.call(Spool.put, new("q1"))
        await until(lambda: "free space" in caplog.text)
        assert device.shown == []
        await outbox.call(lambda spool: spool._db.execute("PRAGMA max_page_count = 100000"))
        assert await device.until_shown(1) == ["q1"]


class TestRestart:
    """A server that ends and another that begins with its answers."""

    @pytest.fixture
    def start(self, running: Running, tmp_path: Path) -> Callable[..., Any]:
        @contextlib.asynccontextmanager
        async def start(port: int = 0, answers: Path | None = tmp_path / "answers.db") -> AsyncIterator[Any]:
            model = WeightlessModel()
            served: Served = Served(
                model,
                lambda _: model,
                running.server.rest_app,
                LinkShape(CHANNEL_DIM, 96),
                (1, 2, 4, 8, 16, 32),
            )
            server: Server = Server(ServerConfig(grpc_port=port, rest_port=0, answers=answers), served)
            addresses = await server.start()
            try:
                yield server, model, addresses
            finally:
                await server.stop()

        return start

    async def test_answers_outlive_the_server_when_told(
        self, start: Callable[..., Any], tmp_path: Path
    ) -> None:
        async with start() as (_, _, addresses), Uplink(addresses.grpc, BUNDLE_HASH, device_id="d") as uplink:
            first = await uplink.ask(question("q1"))
            await uplink.ask(question("q2"))
            await uplink.acknowledge(["q2"])
        async with start() as (server, model, addresses):  # noqa: SIM117
            async with Uplink(addresses.grpc, BUNDLE_HASH, device_id="d") as uplink:
                pieces: list[str] = []
                assert (await uplink.ask(question("q1"), on_delta=pieces.append)).answer == first.answer
                assert "".join(pieces) == first.answer.text
                assert model.prefills == []
                with pytest.raises(RefusedError, match="another question"):
                    await uplink.ask(question("q1", question_ids=[7]))
                await uplink.ask(question("q2"))
                assert sum(model.prefills) == 1
                async with Uplink(addresses.grpc, BUNDLE_HASH, device_id="stranger") as stranger:
                    await stranger.ask(question("q1"))  # its own question
                assert sum(model.prefills) == 2
                assert len(server.answers) == 3

    async def test_an_answer_is_written_before_it_is_sent(
        self, start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(answer_file, "PATIENCE_S", 60.0)
        path = tmp_path / "answers.db"
        async with start() as (server, model, addresses):
            blocker = sqlite3.connect(path, isolation_level=None)
            blocker.execute("BEGIN IMMEDIATE")
            async with Uplink(addresses.grpc, BUNDLE_HASH, device_id="d") as uplink:
                asking = asyncio.create_task(uplink.ask(question("q1")))
                await until(lambda: bool(model.prefills) and server.engine.unanswered == 0)
                await turns(100)
                assert not asking.done()
                blocker.execute("COMMIT")
                await asyncio.wait_for(asking, PATIENCE_S)
                (count,) = blocker.execute("SELECT count(*) FROM answer").fetchone()
                assert count == 1
            blocker.close()

    async def test_a_disk_that_fails_costs_no_answer(
        self, start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with start() as (server, _, addresses):
            db = sqlite3.connect(tmp_path / "answers.db", isolation_level=None)
            db.execute("DROP TABLE answer")
            db.close()
            async with Uplink(addresses.grpc, BUNDLE_HASH, device_id="d") as uplink:
                assert (await uplink.ask(question("q1"))).answer.text == "2"
            assert b"tokenlink_answers_not_written_total 1.0" in server.metrics.exposition()
            assert len(server.answers) == 1

    async def test_a_device_goes_on_where_its_server_comes_back(
        self, start: Callable[..., Any], tmp_path: Path
    ) -> None:
        device = Device(tmp_path / "outbox.db", "")
        async with start(answers=None) as (_, model, addresses):
            device.address = addresses.grpc
            model.gate.close()
            model.answer = lambda prompt: "x" * 20
            stack = contextlib.AsyncExitStack()
            outbox = await stack.enter_async_context(device.on())
            for number in range(10):
                await outbox.call(Spool.put, new(f"q{number}"))
            await until(lambda: bool(model.prefills))
            model.gate.open()
        assert device.shown == [] or len(device.shown) < 10
        async with stack, start(addresses.grpc_port, answers=None):
            assert await device.until_shown(10) == [f"q{number}" for number in range(10)]


async def test_too_many_acknowledged_at_once_are_refused_by_name(running: Running) -> None:
    opened = await running.stub.OpenSession(pb.OpenSessionRequest(device_id="d", bundle_hash=BUNDLE_HASH))

    async def failures(*request_ids: str) -> list[pb.Failure]:
        frame = pb.UplinkFrame(
            session_id=opened.session_id, acknowledge=pb.Acknowledge(request_ids=request_ids)
        )
        return [received.failure async for received in running.stub.Converse(iter([frame]))]

    assert await failures("unknown", "", "x" * 1000) == []
    (failure,) = await failures(*(["x"] * 1025))
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert failure.field == "acknowledge.request_ids"
