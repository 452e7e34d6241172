"""A whole server, both doors on free ports, with a model without weights behind them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import numpy as np
import pytest

from device_agent.media.limits import MediaLimits
from edge_server.cell.allocation import LossFit
from edge_server.engine.calibration import Calibration
from edge_server.frontdoor.backend import Served
from edge_server.frontdoor.ports import BundleArchive, LinkShape
from edge_server.frontdoor.tracing import NotTraced, Tracing
from edge_server.server.addresses import Addresses
from edge_server.server.app import Server
from edge_server.server.config import ServerConfig
from edge_server.server.ingest import MediaIngest
from protos.tokenlink.v1.tokenlink_pb2_grpc import TokenLinkStub
from tests.waiting import until
from tests.weightless import BUNDLE_HASH, CHANNEL_DIM, WeightlessModel, WeightlessTransmitter

SMALL_BUNDLE_HASH = "12" * 32
"""Of the int8 bundle that is served beside the model's own."""


@dataclass
class Running:
    server: Server
    model: WeightlessModel
    addresses: Addresses
    channel: grpc.aio.Channel
    stub: TokenLinkStub

    async def until(self, condition: Callable[[], bool]) -> None:
        await until(condition)


@pytest.fixture
def model() -> WeightlessModel:
    return WeightlessModel()


@pytest.fixture
def settings() -> dict[str, object]:
    """What a test wants otherwise than by default; override it."""
    return {}


@pytest.fixture
def shape() -> LinkShape:
    """Token blocks that the model takes; override it."""
    return LinkShape(CHANNEL_DIM, 96)


@pytest.fixture
def media_limits() -> MediaLimits:
    """What decoding one file may cost; override it."""
    return MediaLimits(max_bytes=2**20)


@pytest.fixture
def tracing() -> Tracing:
    """Where the server's spans go; override it."""
    return NotTraced()


@pytest.fixture
def wall_clock() -> Callable[[], float]:
    """The server's, by which certificates end; override it."""
    return time.time


@pytest.fixture
def calibration() -> Calibration | None:
    """How sure its answers are; override it."""
    return None


@pytest.fixture
def beside() -> Sequence[Served]:
    """Models that are served beside it; override it."""
    return ()


@pytest.fixture
async def running(
    model: WeightlessModel,
    settings: dict[str, object],
    shape: LinkShape,
    media_limits: MediaLimits,
    tracing: Tracing,
    wall_clock: Callable[[], float],
    calibration: Calibration | None,
    beside: Sequence[Served],
    tmp_path: Path,
) -> AsyncIterator[Running]:
    archive = tmp_path / "bundle.tar"
    archive.write_bytes(bytes(range(256)) * 3000)
    small_archive = tmp_path / "bundle-int8.tar"
    small_archive.write_bytes(b"small")
    ingest = MediaIngest(
        WeightlessTransmitter(),  # type: ignore[arg-type]
        token_length=16,
        limits=media_limits,
        threads=2,
        max_pending=8,
        rng=np.random.default_rng(1),
    )
    served = Served(
        model=model,
        runner_of=lambda _: model,
        ingest=ingest,
        shape=shape,
        token_lengths=(1, 2, 4, 8, 16, 32),
        bundles=(
            BundleArchive(BUNDLE_HASH, archive),
            BundleArchive(SMALL_BUNDLE_HASH, small_archive, "int8"),
        ),
        loss={"visual+audio": LossFit(a=0.05, b=0.3, p=1.2, c=0.02, d=0.9)},
        calibration=calibration,
    )
    server: Server = Server(
        # One batch, so that a test knows what runs and what waits.
        ServerConfig.model_validate({"grpc_port": 0, "rest_port": 0, "batches": 1, **settings}),
        served,
        beside=beside,
        tracing=tracing,
        wall_clock=wall_clock,
    )
    addresses = await server.start()
    async with grpc.aio.insecure_channel(addresses.grpc) as channel:
        yield Running(server, model, addresses, channel, TokenLinkStub(channel))
    model.gate.open()
    await server.stop()
    ingest.close()
