from __future__ import annotations

import time
from pathlib import Path

import pytest

from edge_server.access import devices, keys, store
from edge_server.access.credential_store import CredentialStore
from edge_server.cell import Peer
from edge_server.errors import ConfigurationError, UnauthenticatedError
from tests.authority import Pki, make_pki


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return make_pki(tmp_path)


@pytest.fixture
def door(pki: Pki) -> CredentialStore:
    return CredentialStore(pki.access)


def reason(door: CredentialStore, peer: Peer) -> str:
    with pytest.raises(UnauthenticatedError) as refused:
        door.check(peer)
    return refused.value.reason


def test_a_revocation_counts_from_the_next_question_on(pki: Pki, door: CredentialStore) -> None:
    camera, car = pki.device("camera"), pki.device("car")
    door.check(Peer("camera", camera.signed.serial))
    assert devices.revoke(pki.access, "camera", time.time()) == 1
    assert reason(door, Peer("camera", camera.signed.serial)) == "revoked"
    door.check(Peer("car", car.signed.serial))
    assert devices.revoke(pki.access, car.signed.serial.upper(), time.time()) == 1
    assert reason(door, Peer("car", car.signed.serial)) == "revoked"
    with pytest.raises(ConfigurationError, match="no certificate"):
        devices.revoke(pki.access, "camera", time.time())


def test_certificates_that_were_not_given_here_are_unknown(pki: Pki, door: CredentialStore) -> None:
    camera = pki.device("camera")
    stranger = pki.device("stranger", noted=False)
    assert reason(door, Peer("stranger", stranger.signed.serial)) == "unknown_certificate"
    # The serial of one device under the name of another.
    assert reason(door, Peer("car", camera.signed.serial)) == "unknown_certificate"


def test_keys_are_known_until_they_are_revoked(pki: Pki, door: CredentialStore) -> None:
    key = keys.add_key(pki.access, "app", time.time())
    peer = door.peer_of_key(key)
    assert peer.name == "key:app"
    for wrong in (
        "",
        "x",
        key[:-1],
        key + "x",
        key.replace("tokenlink-", "tokenlink-0"),
        "tokenlink--",
        "ü-ü",
    ):
        with pytest.raises(UnauthenticatedError) as refused:
            door.peer_of_key(wrong)
        assert refused.value.reason == "unknown_key"
        assert not wrong or wrong not in str(refused.value)
    keys.revoke_key(pki.access, "app", time.time())
    with pytest.raises(UnauthenticatedError, match="revoked"):
        door.peer_of_key(key)
    with pytest.raises(ConfigurationError):
        keys.revoke_key(pki.access, "app", time.time())


def test_a_key_is_kept_only_as_a_hash_and_its_name_once(pki: Pki) -> None:
    key = keys.add_key(pki.access, "app", time.time())
    with pytest.raises(ConfigurationError, match="already"):
        keys.add_key(pki.access, "app", time.time())
    with pytest.raises(ConfigurationError, match="printable"):
        keys.add_key(pki.access, "a\nb", time.time())
    written = b"".join(path.read_bytes() for path in pki.folder.glob("access.sqlite*"))
    assert key.rpartition("-")[2].encode() not in written
    assert [each.name for each in keys.list_keys(pki.access)] == ["app"]


def test_files_that_are_no_access_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no file"):
        CredentialStore(tmp_path / "nothing")
    text = tmp_path / "text"
    text.write_text("hello, this is text " * 100)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        CredentialStore(text)
    empty = tmp_path / "empty"
    empty.touch()
    with pytest.raises(ConfigurationError, match="version 0"):
        CredentialStore(empty)


def test_making_an_access_file_leaves_one_that_is_there_alone(pki: Pki) -> None:
    keys.add_key(pki.access, "app", 1.0)
    store.create(pki.access)
    assert len(keys.list_keys(pki.access)) == 1
