"""Links that die without a word, calls that are left behind, and pings that come too often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest

from device_agent.uplink import uplink as uplink_module
from device_agent.uplink.backoff import Backoff
from device_agent.uplink.uplink import Uplink
from edge_server.frontdoor.grpc import server as grpc_server
from protos import keepalive
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from protos.tokenlink.v1.tokenlink_pb2_grpc import TokenLinkStub
from tests.chaos.proxy import Proxy
from tests.contract.conftest import Running
from tests.questions import question
from tests.waiting import PATIENCE_S
from tests.weightless import BUNDLE_HASH


def faster(options: tuple[tuple[str, int], ...], factor: int) -> tuple[tuple[str, int], ...]:
    """The same keepalive, so many times as fast."""
    return tuple((name, value // factor if name.endswith("_ms") else value) for name, value in options)


FACTOR = 20
PING = bytes([0, 0, 8, 6, 0])
"""How a ping begins, and not its answer: RFC 9113, 6.7."""


@pytest.fixture
async def proxy(running: Running) -> AsyncIterator[Proxy]:
    async with Proxy("127.0.0.1", running.addresses.grpc_port) as opened:
        yield opened


def test_a_dead_peer_is_noticed_within_30_s_and_pings_are_far_enough_apart() -> None:
    assert keepalive.PING_AFTER_S + keepalive.PING_TIMEOUT_S < 30.0
    assert keepalive.MIN_PING_INTERVAL_S * 2 < keepalive.PING_AFTER_S
    for options in (keepalive.DEVICE_OPTIONS, keepalive.SERVER_OPTIONS):
        assert dict(options)["grpc.http2.max_pings_without_data"] == 0
        assert dict(options)["grpc.keepalive_permit_without_calls"] == 1
        assert dict(options)["grpc.http2.ping_timeout_ms"] <= dict(options)["grpc.keepalive_timeout_ms"]
    assert set(keepalive.DEVICE_OPTIONS) <= set(uplink_module._CHANNEL_OPTIONS)


class TestFastKeepalive:
    """The real settings, sped up on both sides alike."""

    @pytest.fixture(autouse=True)
    def fast(self, monkeypatch: pytest.MonkeyPatch, running_after: None) -> None:
        """Nothing more: the server's options are sped up by ``running_after``, before it starts."""

    @pytest.fixture
    def running_after(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(grpc_server.keepalive, "SERVER_OPTIONS", faster(keepalive.SERVER_OPTIONS, FACTOR))
        monkeypatch.setattr(uplink_module, "_CHANNEL_OPTIONS", faster(uplink_module._CHANNEL_OPTIONS, FACTOR))

    @pytest.fixture
    async def device(self, running_after: None, running: Running, proxy: Proxy) -> AsyncIterator[Uplink]:
        async with Uplink(proxy.address, BUNDLE_HASH, device_id="d", backoff=Backoff(retries=100)) as uplink:
            yield uplink

    async def test_a_half_open_link_is_noticed_by_both_sides(
        self, running: Running, proxy: Proxy, device: Uplink
    ) -> None:
        running.model.answer = lambda prompt: "x" * 20
        running.model.gate.close()
        asking = asyncio.create_task(device.ask(question("q1"), deadline_s=PATIENCE_S))
        await running.until(lambda: running.server.engine.running == 1)
        proxy.swallow()
        # The server gives the slot in the batch back; the device makes a new link and asks again.
        await running.until(lambda: running.server.engine.unanswered == 0)
        # On a busy machine it may take one more: pings are twenty times as impatient here.
        await running.until(lambda: proxy.accepted >= 2)
        proxy.heal()
        running.model.gate.open()
        assert (await asking).answer.text == "x" * 20

    async def test_a_quiet_link_is_pinged_for_long_and_nobody_minds(
        self, running: Running, proxy: Proxy, device: Uplink, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        carried: list[bytes] = []
        write = proxy._write

        async def watched(link: Any, sink: asyncio.StreamWriter, data: bytes) -> None:
            carried.append(data)
            await write(link, sink, data)

        monkeypatch.setattr(proxy, "_write", watched)
        await device.ask(question("q1"))
        # Ten pings without a question; the third too many would end the connection.
        await running.until(lambda: sum(data.count(PING) for data in carried) >= 10)
        await device.ask(question("q2"))
        assert proxy.accepted == 1


class TestOpenCalls:
    @pytest.fixture
    def settings(self) -> dict[str, object]:
        return {"max_grpc_calls": 4, "share_of_one": 1.0}

    @pytest.mark.parametrize("how", ["Ask", "Converse", "Converse-and-close"])
    async def test_calls_that_are_left_behind_free_everything(self, running: Running, how: str) -> None:
        opened = await running.stub.OpenSession(pb.OpenSessionRequest(device_id="d", bundle_hash=BUNDLE_HASH))
        running.model.answer = lambda prompt: "x" * 30
        running.model.gate.close()
        before = len(asyncio.all_tasks())
        for number in range(20):
            asked = question(f"q{number}")
            frame = {"session_id": opened.session_id, "bundle_hash": BUNDLE_HASH, "question": asked}
            async with grpc.aio.insecure_channel(running.addresses.grpc) as channel:
                stub = type(running.stub)(channel)  # type: ignore[no-untyped-call]
                if how == "Ask":
                    call = stub.Ask(pb.AskRequest(**frame))
                else:
                    call = stub.Converse()
                    await call.write(pb.UplinkFrame(**frame))
                await running.until(lambda: running.server.engine.unanswered == 1)
                if how == "Converse-and-close":
                    await call.done_writing()
                # The channel goes with its call, as when a device is switched off.
            await running.until(lambda: running.server.engine.unanswered == 0)
        running.model.gate.open()
        await running.until(lambda: len(asyncio.all_tasks()) <= before + 1)
        # Had one of them kept its place, four at once would be refused.
        calls = [running.stub.Converse() for _ in range(4)]
        for number, call in enumerate(calls):
            frame = {"session_id": opened.session_id, "bundle_hash": BUNDLE_HASH}
            await call.write(pb.UplinkFrame(**frame, question=question(f"last{number}")))
        for call in calls:
            while (part := await call.read()).WhichOneof("body") != "answer":
                pass
            assert part.answer.text == "x" * 30
        for call in calls:
            call.cancel()


class TestStreams:
    @pytest.fixture
    def settings(self) -> dict[str, object]:
        return {"max_grpc_streams": 2}

    async def test_a_connection_has_so_many_calls_at_once_and_the_rest_wait(self, running: Running) -> None:
        opened = await running.stub.OpenSession(pb.OpenSessionRequest(device_id="d", bundle_hash=BUNDLE_HASH))
        running.model.gate.close()
        frame = {"session_id": opened.session_id, "bundle_hash": BUNDLE_HASH}
        calls = [running.stub.Ask(pb.AskRequest(**frame, question=question(f"q{n}"))) for n in range(3)]
        await running.until(lambda: running.server.engine.unanswered == 2)
        # Over a connection of its own, somebody else is answered; the third of these has still not come in.
        async with grpc.aio.insecure_channel(
            running.addresses.grpc, [("grpc.use_local_subchannel_pool", 1)]
        ) as other:
            await TokenLinkStub(other).OpenSession(
                pb.OpenSessionRequest(device_id="e", bundle_hash=BUNDLE_HASH)
            )
        assert running.server.engine.unanswered == 2
        running.model.gate.open()
        for call in calls:
            assert [frame async for frame in call][-1].answer.text == "2"
