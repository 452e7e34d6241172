"""A cell that is shared out, over real sockets: grants change under open sessions, and agents follow."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest

from device_agent.uplink.uplink import Uplink
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.contract.conftest import Running
from tests.questions import about_video
from tests.waiting import until
from tests.weightless import BUNDLE_HASH

TOTAL_HZ = 1e5


@pytest.fixture
def settings() -> dict[str, object]:
    return {
        "cell": {
            "allocation": "joint",
            "total_bandwidth_hz": TOTAL_HZ,
            "allocate_every_s": 0.05,
            "allocate_within_s": 60.0,
        }
    }


def uplink_of(running: Running, device_id: str, snr_db: float) -> Uplink:
    return Uplink(running.addresses.grpc, BUNDLE_HASH, device_id=device_id, snr_db=snr_db)


def held_hz(running: Running) -> float:
    return sum(device.grant.bandwidth_hz for device in running.server.cell.devices())


async def test_a_grant_that_changes_reaches_the_agent_over_its_stream(running: Running) -> None:
    async with uplink_of(running, "first", 10.0) as first, uplink_of(running, "second", 10.0) as second:
        await first.ask(about_video("q1"))
        assert (await first.open()).grant.bandwidth_hz == pytest.approx(TOTAL_HZ, rel=0.01)
        await second.ask(about_video("q2"))

        async def halved() -> bool:
            return (await first.open()).grant.bandwidth_hz == pytest.approx(TOTAL_HZ / 2.0, rel=0.01)

        await until(halved)
        session = await first.open()
        assert session.grant.HasField("tx_power_db")
        assert session.grant.channel_uses >= session.grant.token_length
        assert held_hz(running) == pytest.approx(TOTAL_HZ, rel=0.01)
        # Renewed by the server's word alone: the same session, and questions go on.
        assert (await first.ask(about_video("q3"))).answer.text == "2+video:4"


async def test_the_grant_follows_a_device_that_moves(running: Running) -> None:
    async with uplink_of(running, "walker", 20.0) as walker, uplink_of(running, "other", 20.0) as other:
        await asyncio.gather(walker.ask(about_video("q1")), other.ask(about_video("q2")))
        near = await walker.open(20.0)
        far_db = near.grant.tx_power_db

        async def follows() -> bool:
            session = await walker.open(-8.0)
            return session.grant.bandwidth_hz < near.grant.bandwidth_hz * 0.99 and session.snr_db == -8.0

        await until(follows)
        assert (await walker.open(-8.0)).grant.tx_power_db > far_db
        assert held_hz(running) == pytest.approx(TOTAL_HZ, rel=0.02)


async def test_an_agent_that_knows_no_updates_goes_on_working(running: Running) -> None:
    """As agents of before read the stream: by request_id, and by the bodies that they knew."""
    opened = await running.stub.OpenSession(
        pb.OpenSessionRequest(device_id="old", bundle_hash=BUNDLE_HASH, snr_db=10.0)
    )
    call = running.stub.Converse()

    async def ask(request_id: str) -> str:
        await call.write(
            pb.UplinkFrame(
                session_id=opened.session_id, bundle_hash=BUNDLE_HASH, question=about_video(request_id)
            )
        )
        async for frame in call:
            if frame.request_id == request_id and frame.WhichOneof("body") == "answer":
                return str(frame.answer.text)
        raise AssertionError("the stream ended")

    assert await ask("q1") == "2+video:4"
    async with uplink_of(running, "new", -5.0) as new:
        await new.ask(about_video("q2"))
        await until(lambda: (running.server.metrics.registry.get_sample_value(*REGRANTS) or 0.0) >= 1.0)
        assert await ask("q3") == "2+video:4"
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await call.code()


REGRANTS = ("tokenlink_grant_updates_total",)


def unkept(running: Running) -> float:
    return running.server.metrics.registry.get_sample_value("tokenlink_deadlines_unkept_total") or 0.0


async def test_a_deadline_and_the_time_to_make_tokens_reach_the_allocation(running: Running) -> None:
    symbols = about_video().payloads[0].shape[1] // 2
    async with uplink_of(running, "hasty", 10.0) as hasty, uplink_of(running, "idle", 10.0) as idle:

        async def airtime_s() -> float:
            grant = (await hasty.open()).grant
            return grant.token_length * symbols / grant.bandwidth_hz

        await asyncio.gather(hasty.ask(about_video("q1")), idle.ask(about_video("q2", deadline_ms=30_000)))
        (session,) = (each for each in running.server.cell.open_sessions() if each.device_id == "hasty")
        # Of half of 10 s, making tokens leaves nothing: that costs nobody an answer.
        told = {"deadline_ms": 9_000, "spent_ms": 1_000, "encode_ms": 5_000}
        for request_id in ("q3", "q4"):
            assert (await hasty.ask(about_video(request_id, **told))).answer.text == "2+video:4"
        assert (session.deadline_s, session.encode_s) == (10.0, 5.0)
        await until(lambda: unkept(running) >= 1.0)

        # Told over the stream, after it was reckoned: half of the cell, which takes over a millisecond.
        async def in_its_own_time() -> bool:
            return await airtime_s() > 1e-3

        await until(in_its_own_time)
        # It leaves a millisecond.
        told["encode_ms"] = 4_999
        for request_id in ("q5", "q6"):
            assert (await hasty.ask(about_video(request_id, **told))).answer.text == "2+video:4"

        async def in_time() -> bool:
            return await airtime_s() <= 1e-3 * (1.0 + 1e-5)

        await until(in_time)
        assert held_hz(running) == pytest.approx(TOTAL_HZ, rel=0.01)


async def test_a_question_that_is_never_sent_is_reckoned_with(running: Running) -> None:
    async with uplink_of(running, "slow", 10.0) as slow:
        await slow.ask(about_video("q1", deadline_ms=10_000, encode_ms=100))
        (session,) = running.server.cell.open_sessions()
        assert (session.deadline_s, session.encode_s) == (10.0, 0.1)
        slow.tell_late(8.0, 8.0)
        await until(lambda: (session.deadline_s, session.encode_s) == (8.0, 8.0))
        await until(lambda: unkept(running) >= 1.0)
    async with uplink_of(running, "new", 10.0) as new:
        await new.open()
        new.tell_late(1e6, 1e6)  # before there is a stream, and more than is believed
        (session,) = running.server.cell.open_sessions()
        await until(lambda: (session.deadline_s, session.encode_s) == (3600.0, 60.0))
        assert (await new.ask(about_video("q1"))).answer.text == "2+video:4"


async def test_grants_that_an_idle_device_never_heard_of_are_not_held_against_it(running: Running) -> None:
    async with uplink_of(running, "idle", 10.0) as idle:
        granted = (await idle.open()).grant
        (session,) = running.server.cell.open_sessions()
        question = about_video("q1")
        for block in question.payloads:
            block.channel.channel_uses = block.shape[0] * block.shape[1] // 2
            block.channel.airtime_s = block.channel.channel_uses / granted.bandwidth_hz
        for part in (0.5, 0.25):
            session.regrant(replace(session.grant, bandwidth_hz=part * granted.bandwidth_hz))
        assert (await idle.ask(question)).answer.text == "2+video:4"
    counted = running.server.metrics.registry.get_sample_value
    assert not counted("tokenlink_grants_exceeded_total", {"what": "bandwidth"})


async def test_absurd_times_are_clamped_and_answered(running: Running) -> None:
    most = 2**32 - 1
    async with uplink_of(running, "liar", 10.0) as liar:
        for number, told in enumerate(((most, most, most), (30_000, 0, most), (0, most, 0))):
            times = dict(zip(("deadline_ms", "spent_ms", "encode_ms"), told, strict=True))
            assert (await liar.ask(about_video(f"q{number}", **times))).answer.text == "2+video:4"
            (session,) = running.server.cell.open_sessions()
            assert 0.0 <= session.deadline_s <= 3600.0
            assert 0.0 <= session.encode_s <= 60.0
        assert session.deadline_s == 0.0, "none was told"


async def test_what_exceeds_a_grant_is_counted(running: Running) -> None:
    async with uplink_of(running, "greedy", 10.0) as greedy:
        question = about_video("q1")
        for block in question.payloads:
            block.channel.channel_uses = 10_000_000
            block.channel.airtime_s = 1e-6
        assert (await greedy.ask(question)).answer.text == "2+video:4"
    registry = running.server.metrics.registry
    found = {
        what: registry.get_sample_value("tokenlink_grants_exceeded_total", {"what": what})
        for what in ("token_length", "channel_uses", "bandwidth", "unreported")
    }
    assert (found["channel_uses"], found["bandwidth"], found["unreported"]) == (1.0, 1.0, 0.0)
    await until(lambda: bool(registry.get_sample_value("tokenlink_allocations_total", {"outcome": "solved"})))
