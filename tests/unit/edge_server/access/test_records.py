"""What access files have in common: records that are joined, whatever comes first."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest

from edge_server.access import devices, keys, records, store
from edge_server.access.credential_store import CredentialStore
from edge_server.errors import UnauthenticatedError


def file_in(folder: Path) -> Path:
    store.create(folder / "access.sqlite")
    return folder / "access.sqlite"


def test_a_key_of_one_file_is_good_and_revoked_by_the_other(tmp_path: Path) -> None:
    here, there = file_in(tmp_path / "here"), file_in(tmp_path / "there")
    key = keys.add_key(here, "program", 1.0)
    records.take(there, records.read_records(here))
    assert CredentialStore(there).peer_of_key(key).name == "key:program"
    assert records.read_records(there) == records.read_records(here)
    keys.revoke_key(there, "program", 2.0)
    credentials = CredentialStore(here)
    credentials.peer_of_key(key)
    records.take(here, records.read_records(there))
    with pytest.raises(UnauthenticatedError, match="revoked"):
        credentials.peer_of_key(key)
    # What came late does not make it good again.
    assert all(each["revoked_s"] == 2.0 for each in records.read_records(here).values())


def test_two_keys_of_one_name_are_both_good_and_two_users(tmp_path: Path) -> None:
    here, there = file_in(tmp_path / "here"), file_in(tmp_path / "there")
    first, second = (keys.add_key(path, "program", 1.0) for path in (here, there))
    records.take(there, records.read_records(here))
    credentials = CredentialStore(there)
    assert credentials.peer_of_key(first).name != credentials.peer_of_key(second).name


def test_joining_is_the_same_in_any_order_and_the_stricter_counts() -> None:
    base = {"device_id": "d", "fingerprint": "f", "issued_s": 1.0, "expires_s": 9.0, "revoked_s": None}
    seen = [base, {**base, "revoked_s": 5.0}, {**base, "expires_s": 7.0, "revoked_s": 6.0}]
    found = set()
    for order in itertools.permutations([*seen, seen[0]]):
        together = order[0]
        for other in order[1:]:
            together = records.joined(together, other)
        found.add(records.written(together))
    assert found == {records.written({**base, "expires_s": 7.0, "revoked_s": 5.0})}


@pytest.mark.parametrize(
    "message",
    [b"", b"[]", b"{}", b"\xff", b'{"name": "n", "digest": 5, "created_s": 1, "revoked_s": null}'],
)
def test_what_is_no_record_is_left_out(message: bytes, caplog: pytest.LogCaptureFixture) -> None:
    assert records.read("key.id", message) is None
    assert "cannot be read" in caplog.text


def test_a_certificate_is_taken_as_it_is(tmp_path: Path) -> None:
    here, there = file_in(tmp_path / "here"), file_in(tmp_path / "there")
    made = {"device_id": "camera", "fingerprint": "f", "issued_s": 1.0, "expires_s": 9e9, "revoked_s": None}
    records.take(here, {"certificate.ab": made})
    records.take(there, records.read_records(here))
    assert devices.revoke(there, "camera", time.time()) == 1
    records.take(here, records.read_records(there))
    assert [each.state(2.0) for each in devices.list_certificates(here)] == ["revoked"]
