"""Attacks on the gRPC door: calls that nobody ends, answers that nobody reads, sessions without number."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from protos.tokenlink.v1 import tokenlink_pb2 as pb
from protos.tokenlink.v1.tokenlink_pb2_grpc import TokenLinkStub
from tests.chaos.attacks.rest import many
from tests.chaos.attacks.target import Target

_CHANNELS = 12
_CALLS = 100


def _channel(target: Target) -> grpc.aio.Channel:
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_retries", 0),
        ("grpc.primary_user_agent", uuid.uuid4().hex),
    ]
    shown = target.certificate
    if shown is None and target.authority is None:
        return grpc.aio.insecure_channel(target.grpc, options)
    if shown is None:
        secure = grpc.ssl_channel_credentials(target.authority)
        return grpc.aio.secure_channel(target.grpc, secure, options)
    return grpc.aio.secure_channel(target.grpc, shown.channel_credentials(), options)


@contextlib.asynccontextmanager
async def _channels(target: Target) -> AsyncIterator[list[grpc.aio.Channel]]:
    made = [_channel(target) for _ in range(_CHANNELS)]
    try:
        yield made
    finally:
        for each in made:
            await each.close()


async def _held(target: Target, call: Any) -> None:
    """A call that is begun and not read on."""
    try:
        async with asyncio.timeout(min(target.left_s + 0.1, 10.0)):
            await call.read()
            target.counts["begun"] += 1
            await asyncio.sleep(10.0)
    except grpc.aio.AioRpcError as error:
        target.counts[error.code().name] += 1
        await asyncio.sleep(0.02)
    except TimeoutError:
        target.counts["held"] += 1
    finally:
        call.cancel()


async def unread_bundles(target: Target) -> None:
    """The bundle, hundreds of times at once; of each one part is read."""
    async with _channels(target) as channels:

        async def once(target: Target, turn: int) -> None:
            stub = TokenLinkStub(channels[turn % _CHANNELS])  # type: ignore[no-untyped-call]
            await _held(target, stub.GetBundle(pb.GetBundleRequest()))

        await many(target, 480, once)


async def watches(target: Target) -> None:
    """Health and reflection, watched by thousands of calls."""
    async with _channels(target) as channels:

        async def once(target: Target, turn: int) -> None:
            channel = channels[turn % _CHANNELS]
            if turn % 4:
                stub = health_pb2_grpc.HealthStub(channel)
                call = stub.Watch(health_pb2.HealthCheckRequest())
            else:
                stub = reflection_pb2_grpc.ServerReflectionStub(channel)
                call = stub.ServerReflectionInfo(_one_and_wait(target))
            await _held(target, call)

        await many(target, _CHANNELS * _CALLS, once)


async def _one_and_wait(target: Target) -> AsyncIterator[Any]:
    yield reflection_pb2.ServerReflectionRequest(list_services="")
    await asyncio.sleep(target.left_s)


async def sessions(target: Target) -> None:
    """Sessions, as many as are given, under ever other names; and streams in them."""
    name = target.certificate.device_id if target.certificate is not None else "thief"
    numbers = itertools.count()
    async with _channels(target) as channels:

        async def once(target: Target, turn: int) -> None:
            stub = TokenLinkStub(channels[turn % _CHANNELS])  # type: ignore[no-untyped-call]
            device = f"{name}/{next(numbers)}" if turn % 5 else "camera-1"
            try:
                opened = await stub.OpenSession(
                    pb.OpenSessionRequest(device_id=device, bundle_hash="ab" * 32), timeout=5
                )
                target.counts["sessions"] += 1
                call = stub.Converse()
                cancel = pb.UplinkFrame(session_id=opened.session_id, cancel=pb.Cancel(request_id="x"))
                await call.write(cancel)
                await _held(target, call)
            except grpc.aio.AioRpcError as error:
                target.counts[error.code().name] += 1
                await asyncio.sleep(0.005)

        await many(target, 64, once)


async def large_frames(target: Target) -> None:
    """Frames as large as a message may be: texts of tokens, blocks that are none, in streams that go on."""
    ids = [1] * 500_000
    async with _channels(target) as channels:

        async def once(target: Target, turn: int) -> None:
            stub = TokenLinkStub(channels[turn % _CHANNELS])  # type: ignore[no-untyped-call]
            asked = pb.Question(request_id=uuid.uuid4().hex, question_ids=ids, context_ids=ids)
            if turn % 2:
                asked = pb.Question(
                    request_id=asked.request_id, payloads=[pb.TokenPayload(data=bytes(2_000_000))]
                )
            frame = pb.UplinkFrame(session_id="x", bundle_hash="ab" * 32, question=asked)
            call = stub.Converse()
            try:
                for _ in range(20):
                    await call.write(frame)
                    target.counts["frames"] += 1
                await call.done_writing()
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
                target.counts[type(error).__name__] += 1
            finally:
                call.cancel()

        await many(target, 8, once)
