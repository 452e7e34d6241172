"""A base station with broker, door and engine of its own, whose way to the cluster is cut while devices ask.

Every question has to be answered meanwhile. Then the way is back: the cluster has to know every answer, and
answers whoever asks again there from the same run.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from pathlib import Path
from typing import Any

from edge_server.access.cluster_files import BrokerPorts, make_cluster
from edge_server.cluster.connection import Connection
from edge_server.cluster.settings import ClusterConfig
from edge_server.cluster.subjects import CLAIMS
from tests.benchmarks.cluster.devices import Device, Doors, Tally
from tests.benchmarks.cluster.places import SERVE
from tests.benchmarks.cluster.serve_sleeping import STEP
from tests.brokers import broker_of
from tests.chaos.proxy import Proxy
from tests.nodes import Node, Nodes
from tests.ports import free_port
from tests.waiting import until

CELL = "harbour"
STEP_S, AGENTS, ASKED_AGAIN = 0.1, 4, 100
_SETTINGS = {
    "BATCHES": "1",
    "MAX_BATCH": "8",
    "ARRIVALS_PER_S": "1000",
    # Nobody acknowledges: none is to be forgotten before it was copied.
    "ANSWERS_KEPT": "100000",
    "ANSWERS_KEPT_IN_ALL": "1000000",
}
_BESIDE_S = 3.0


def measure(*, quick: bool) -> dict[str, Any]:
    """Measure it."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measure(Path(folder), 3.0 if quick else 300.0))


async def _measure(folder: Path, cut_s: float) -> dict[str, Any]:
    hub, station = (BrokerPorts(*(free_port() for _ in range(4))) for _ in range(2))
    made = folder / "cluster"
    async with Proxy("127.0.0.1", hub.leaves) as way:
        make_cluster(
            made, ["127.0.0.1"], [CELL], store=folder / "hub", stations={CELL: "localhost"}, ports=hub
        )
        leaf = leaf_through(made, way, hub, station, folder)
        nodes = Nodes(folder, None, SERVE, {STEP: str(STEP_S)})
        with broker_of(made / "nats-127.0.0.1.conf", hub.clients), broker_of(leaf, station.clients):
            try:
                await until(lambda: way.connections > 0)
                return await _cut(nodes, made, way, hub.clients, station.clients, cut_s)
            finally:
                nodes.stop()


def leaf_through(made: Path, way: Proxy, hub: BrokerPorts, station: BrokerPorts, folder: Path) -> Path:
    """The base station's settings, with ports of its own, and to the cluster by a way that can be cut."""
    leaf = made / CELL / "station" / "nats.conf"
    told = leaf.read_text(encoding="utf-8")
    for before, after in (
        (hub.leaves, int(way.address.rpartition(":")[2])),
        (hub.clients, station.clients),
        (hub.monitor, station.monitor),
    ):
        told = told.replace(f":{before}", f":{after}")
    leaf.write_text(told.replace(str(folder / "hub"), str(folder / "station")), encoding="utf-8")
    return leaf


async def _cut(nodes: Nodes, made: Path, way: Proxy, hub: int, station: int, cut_s: float) -> dict[str, Any]:
    async def start(where: str, role: str, port: int, **more: str) -> Node:
        told = {
            "CLUSTER": f"tls://127.0.0.1:{port}",
            "ROLE": role,
            "NATS_CA": str(made / CELL / "ca.pem"),
            "NATS_CERT": str(made / CELL / f"{role}.pem"),
            "NATS_KEY": str(made / CELL / f"{role}.key"),
        }
        return await asyncio.to_thread(nodes.start, f"{where}-{role}", **_SETTINGS, **told, **more)

    here, _ = await start("station", "door", station), await start("station", "engine", station)
    there = await start("hub", "door", hub, STATIONS=f'["{CELL}"]')
    other = await start("hub", "engine", hub)
    await until(lambda: here.ready and there.ready)
    tally, asked, stop = Tally(), itertools.count(), asyncio.Event()
    questions: list[tuple[int, int, tuple[int, int]]] = []

    async def agent(number: int) -> None:
        device = Device(f"agent-{number}", Doors([here.grpc], here.bundle_hash), 0, tally)
        while not stop.is_set():
            question = next(asked)
            ids = (1 + question % 900, 1 + question // 900 % 900)
            questions.append((number, question, ids))
            await device.ask(f"q{question}", ids)
        await device.close()

    asking = [asyncio.create_task(agent(number)) for number in range(AGENTS)]
    await asyncio.sleep(_BESIDE_S)
    way.refuse()
    before = tally.answered
    await asyncio.sleep(cut_s)
    during = tally.answered - before
    way.heal()
    healed = time.monotonic()
    await asyncio.sleep(_BESIDE_S)
    stop.set()
    await asyncio.gather(*asking)
    await _known(made, hub, len(questions))
    known_after_s = time.monotonic() - healed
    run_before = other.count('tokenlink_questions_total{outcome="answered"}')
    again = questions[:: max(len(questions) // ASKED_AGAIN, 1)]
    for number, question, ids in again:
        device = Device(f"agent-{number}", Doors([there.grpc], there.bundle_hash), 0, tally)
        await device.ask(f"q{question}", ids)
        await device.close()
    return {
        "questions": len(questions),
        "answered": tally.answered - len(again),
        "answered_while_cut": during,
        "cut_s": cut_s,
        "wrong": tally.wrong,
        "known_after_s": known_after_s,
        "asked_again": len(again),
        "run_again": int(other.count('tokenlink_questions_total{outcome="answered"}') - run_before),
        "longest_s": max(tally.latencies_s),
    }


async def _known(made: Path, port: int, count: int) -> None:
    """Until the cluster's broker has the answers of so many questions."""
    node = made / CELL
    config = ClusterConfig(
        servers=f"tls://127.0.0.1:{port}",
        role="door",
        nats_ca=node / "ca.pem",
        nats_cert=node / "door.pem",
        nats_key=node / "door.key",
    )
    connection = Connection(config, kept_s=86_400.0, window_s=300.0)
    await connection.open()

    async def all_of_them() -> bool:
        return (await connection.jet.stream_info(f"KV_{CLAIMS}")).state.messages >= count

    await until(all_of_them)
    await connection.close()
