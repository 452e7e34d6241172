"""What one device can take, with its certificate and after it was revoked: a share, and nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from edge_server.access import devices
from edge_server.server import revocation
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from protos.tokenlink.v1.tokenlink_pb2_grpc import TokenLinkStub
from tests.authority import Device, Pki, make_pki
from tests.contract.conftest import Running
from tests.contract.test_device_certificates import frame, rejections, session_of
from tests.waiting import PATIENCE_S
from tests.weightless import BUNDLE_HASH

OF_ONE = 4
MAX_SESSIONS_OF_ONE = 3


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return make_pki(tmp_path / "certs")


@pytest.fixture
def settings(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    # Tests look themselves.
    monkeypatch.setattr(revocation, "LOOK_S", 3600.0)
    return pki.settings() | {
        "max_sessions": 2 * MAX_SESSIONS_OF_ONE,
        "max_sessions_of_one": MAX_SESSIONS_OF_ONE,
        "max_grpc_calls": 2 * OF_ONE,
        "max_downloads": 2,
        "share_of_one": 0.5,
        "receive_s": 1.0,
    }


@contextlib.asynccontextmanager
async def channel_of(running: Running, device: Device) -> AsyncIterator[grpc.aio.Channel]:
    shown = device.credentials()
    secure = grpc.ssl_channel_credentials(shown.authority, shown.key, shown.certificate)
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    async with grpc.aio.secure_channel(running.addresses.grpc, secure, options) as channel:
        yield channel


def watch(channel: grpc.aio.Channel) -> Any:
    return health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())  # type: ignore[no-untyped-call]


def reflected(channel: grpc.aio.Channel) -> Any:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[no-untyped-call]
    return stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))


async def refused(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await asyncio.wait_for(call.read(), PATIENCE_S)
    return error.value.code()


async def test_health_and_reflection_answer_devices_and_not_who_was_revoked(
    running: Running, pki: Pki
) -> None:
    camera, thief = pki.device("camera"), pki.device("thief")
    devices.revoke(pki.access, "thief", time.time())
    async with channel_of(running, camera) as good, channel_of(running, thief) as bad:
        assert (await watch(good).read()).status == health_pb2.HealthCheckResponse.SERVING
        assert (await reflected(good).read()).list_services_response.service
        for call in (watch(bad), reflected(bad)):
            assert await refused(call) is grpc.StatusCode.UNAUTHENTICATED
    assert rejections(running, "revoked") == 2.0


async def test_one_device_cannot_take_every_call(running: Running, pki: Pki) -> None:
    greedy, other = pki.device("greedy"), pki.device("other")
    async with channel_of(running, greedy) as many, channel_of(running, other) as one:
        held = [watch(many) for _ in range(OF_ONE)]
        for call in held:
            assert await call.read()
        assert running.server.bounds.calls.held_by("greedy") == OF_ONE
        assert await refused(watch(many)) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert rejections(running, "calls") == 1.0
        session_id = await session_of(TokenLinkStub(one), "other")
        call = TokenLinkStub(one).Converse()
        await call.write(frame(session_id, "q"))
        while (part := await call.read()).WhichOneof("body") == "delta":
            pass
        assert part.answer.text == "2+video:4"
        call.cancel()
        for watching in held:
            watching.cancel()
        await running.until(lambda: running.server.bounds.calls.held == 0)


async def test_one_device_cannot_take_every_session(running: Running, pki: Pki) -> None:
    greedy, other = pki.device("greedy"), pki.device("other")
    async with channel_of(running, greedy) as many, channel_of(running, other) as one:
        for number in range(MAX_SESSIONS_OF_ONE):
            await session_of(TokenLinkStub(many), f"greedy/{number}")
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await session_of(TokenLinkStub(many), "greedy/more")
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "greedy has 3 sessions open, at most 3 may be" in (error.value.details() or "")
        # One that it has is renewed; one that it closes makes room.
        session_id = await session_of(TokenLinkStub(many), "greedy/0")
        await TokenLinkStub(many).CloseSession(pb.CloseSessionRequest(session_id=session_id))
        await session_of(TokenLinkStub(many), "greedy/more")
        assert await session_of(TokenLinkStub(one), "other")
    assert rejections(running, "sessions_of_one") == 1.0


async def test_a_revocation_ends_sessions_and_calls_that_send_nothing(running: Running, pki: Pki) -> None:
    watcher = running.server.revocation
    assert watcher is not None
    watcher.look()
    thief, other = pki.device("thief"), pki.device("other")
    async with channel_of(running, thief) as channel, channel_of(running, other) as honest:
        await session_of(TokenLinkStub(channel), "thief/1")
        kept = await session_of(TokenLinkStub(honest), "other")
        conversation, watching, stays = TokenLinkStub(channel).Converse(), watch(channel), watch(honest)
        await conversation.write(frame("no session", "q"))
        for call in (conversation, watching, stays):
            assert await call.read()
        assert running.server.cell.sessions == 2
        watcher.look()
        assert running.server.cell.sessions == 2
        devices.revoke(pki.access, "thief", time.time())
        watcher.look()
        assert [device.device_id for device in running.server.cell.devices()] == ["other"]
        for call in (conversation, watching):
            assert await refused(call) is grpc.StatusCode.UNAUTHENTICATED
            assert "revoked" in (await call.details())
        await running.until(lambda: running.server.bounds.calls.held_by("thief") == 0)
        assert running.server.bounds.calls.held_by("other") == 1
        await TokenLinkStub(honest).CloseSession(pb.CloseSessionRequest(session_id=kept))


class TestDownloads:
    """Bundles that nobody reads, larger than what gRPC takes for a client."""

    @pytest.fixture
    def settings(self) -> dict[str, object]:
        return {"max_downloads": 4, "share_of_one": 0.5, "receive_s": 1.0, "max_held_bytes": 2**23}

    async def test_they_are_few_and_given_up(self, running: Running) -> None:
        bundle = running.server.backends.current.served.bundles[0]
        bundle.path.write_bytes(bytes(2**25))
        bounds = running.server.bounds
        calls = [running.stub.GetBundle(pb.GetBundleRequest(bundle_hash=BUNDLE_HASH)) for _ in range(2)]
        await running.until(lambda: bounds.downloads.held == 2)
        assert bounds.held_bytes.held == 2 * 2**20
        third = running.stub.GetBundle(pb.GetBundleRequest(bundle_hash=BUNDLE_HASH))
        assert await refused(third) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert rejections(running, "downloads") == 1.0
        await running.until(lambda: rejections(running, "slow_reader") == 2.0)
        await running.until(lambda: bounds.downloads.held == bounds.held_bytes.held == 0)
        for call in calls:
            call.cancel()


class TestQuestionsInMemory:
    @pytest.fixture
    def settings(self) -> dict[str, object]:
        return {"max_held_bytes": 65_536, "share_of_one": 1.0, "max_batch_positions": 100_000}

    async def test_their_bytes_add_up_over_streams_and_calls(self, running: Running) -> None:
        running.model.gate.close()
        opened = await running.stub.OpenSession(
            pb.OpenSessionRequest(device_id="camera", bundle_hash=BUNDLE_HASH)
        )
        large = pb.Question(question_ids=[1, 2], context_ids=[1] * 30_000)

        def question(request_id: str) -> pb.Question:
            named = pb.Question(request_id=request_id)
            named.MergeFrom(large)
            return named

        def ask(request_id: str) -> Any:
            return running.stub.Ask(
                pb.AskRequest(
                    session_id=opened.session_id, bundle_hash=BUNDLE_HASH, question=question(request_id)
                )
            )

        held = running.server.bounds.held_bytes
        stream = running.stub.Converse()
        await stream.write(
            pb.UplinkFrame(
                session_id=opened.session_id, bundle_hash=BUNDLE_HASH, question=question("streamed")
            )
        )
        await running.until(lambda: held.held > 30_000)
        asked = ask("asked")
        await running.until(lambda: held.held > 60_000)
        assert await refused(ask("too much")) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert rejections(running, "held_bytes") == 1.0
        running.model.gate.open()
        asked.cancel()
        stream.cancel()
        await running.until(lambda: held.held == 0)
