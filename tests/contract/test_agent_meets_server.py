"""The real agent's uplink against the real server: what either side's own tests only assume."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from device_agent.errors import BundleMismatchError, DeadlineError, RefusedError
from device_agent.uplink.backoff import Backoff
from device_agent.uplink.uplink import Uplink
from tests.contract.conftest import Running
from tests.questions import about_video
from tests.waiting import obey
from tests.weightless import BUNDLE_HASH


class Relay:
    """A wire between agent and server that can be cut."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._pumps: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.address = ""
        self.joined = 0

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.joined += 1
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers |= {writer, far_writer}
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            pump = asyncio.create_task(self._pump(source, sink))
            self._pumps.add(pump)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65_536):
                sink.write(data)
                await sink.drain()
        sink.transport.abort()


@pytest.fixture
async def uplink(running: Running) -> AsyncIterator[Uplink]:
    async with Uplink(running.addresses.grpc, BUNDLE_HASH, device_id="camera") as opened:
        yield opened


async def test_the_grant_follows_the_channel_within_one_session(uplink: Uplink) -> None:
    good, fair, bad = [await uplink.open(snr_db) for snr_db in (20.0, 7.0, -5.0)]
    assert [session.grant.token_length for session in (good, fair, bad)] == [8, 16, 32]
    assert good.session_id == fair.session_id == bad.session_id


async def test_questions_are_answered(uplink: Uplink) -> None:
    pieces: list[str] = []
    replies = await asyncio.gather(
        uplink.ask(about_video("q0"), on_delta=pieces.append),
        *(uplink.ask(about_video(f"q{n}")) for n in range(1, 20)),
    )
    assert {reply.answer.text for reply in replies} == {"2+video:4"}
    assert "".join(pieces) == "2+video:4"


async def test_a_cut_link_is_made_again_and_the_question_answered(running: Running) -> None:
    running.model.answer = lambda prompt: "x" * 20
    running.model.gate.close()
    async with (
        Relay(running.addresses.grpc_port) as relay,
        Uplink(relay.address, BUNDLE_HASH, device_id="camera", backoff=Backoff()) as uplink,
    ):
        asking = asyncio.create_task(uplink.ask(about_video("q1")))
        await running.until(lambda: running.server.engine.running == 1)
        relay.cut()
        # Whether the server notices the cut or the repeat first, one run is left.
        await running.until(lambda: relay.joined == 2)
        running.model.gate.open()
        reply = await asking
        assert reply.answer.text == "x" * 20
        assert reply.tries == 2
        assert running.server.cell.sessions == 1
        # And once it was answered, asking again costs no run.
        prefills = sum(running.model.prefills)
        relay.cut()
        assert (await uplink.ask(about_video("q1"))).answer == reply.answer
        assert sum(running.model.prefills) == prefills


async def test_a_session_that_was_lost_is_opened_again(running: Running, uplink: Uplink) -> None:
    session = await uplink.open()
    running.server.cell.close(session.session_id)
    assert (await uplink.ask(about_video("q1"))).answer.text == "2+video:4"


async def test_taking_a_question_back_frees_its_slot(running: Running, uplink: Uplink) -> None:
    running.model.answer = lambda prompt: "x" * 20
    running.model.gate.close()
    asking = asyncio.create_task(uplink.ask(about_video("q1")))
    await running.until(lambda: running.server.engine.running == 1)
    asking.cancel()
    await running.until(lambda: running.server.engine.unanswered == 0)
    with pytest.raises(asyncio.CancelledError):
        await asking
    running.model.gate.open()
    assert (await uplink.ask(about_video("q2"))).answer.text == "x" * 20
    assert len(running.model.prefills) == 2


async def test_refusals_arrive_as_the_agents_own_errors(running: Running, uplink: Uplink) -> None:
    with pytest.raises(RefusedError) as refused:
        await uplink.ask(about_video("q1", max_new_tokens=100_000))
    assert refused.value.field == "max_new_tokens"
    running.model.answer = lambda prompt: "x" * 20
    running.model.gate.close()
    late = asyncio.create_task(uplink.ask(about_video("q2", deadline_ms=50)))
    # The deadline counts from when the server has the question, which on a busy machine takes a while.
    await running.until(lambda: running.server.engine.unanswered == 1 or late.done())
    await obey(0.05)
    running.model.gate.open()
    with pytest.raises(DeadlineError):
        await late
    async with Uplink(running.addresses.grpc, "cd" * 32, device_id="other") as other:
        with pytest.raises(BundleMismatchError, match=BUNDLE_HASH):
            await other.open()


async def test_the_bundle_arrives_whole(uplink: Uplink, tmp_path: Path) -> None:
    await uplink.fetch_bundle(tmp_path / "fetched.tar")
    assert (tmp_path / "fetched.tar").read_bytes() == bytes(range(256)) * 3000


class TestOverload:
    @pytest.fixture
    def settings(self) -> dict[str, object]:
        return {"max_batch": 2, "max_queue": 4, "max_queue_per_user": 4}

    async def test_an_obedient_agent_gets_through(self, running: Running) -> None:
        async with contextlib.AsyncExitStack() as stack:
            uplinks = [
                await stack.enter_async_context(
                    Uplink(
                        running.addresses.grpc, BUNDLE_HASH, device_id=f"d{n}", backoff=Backoff(retries=30)
                    )
                )
                for n in range(10)
            ]
            replies = await asyncio.gather(
                *(uplink.ask(about_video(f"q{n}")) for uplink in uplinks for n in range(5))
            )
        assert [reply.answer.text for reply in replies] == ["2+video:4"] * 50
