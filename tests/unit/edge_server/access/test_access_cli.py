from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_server.access.credential_store import CredentialStore
from protos.enrolment import EnrolToken


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    ran = subprocess.run(
        [sys.executable, "-c", "from edge_server.cli import main; main()", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[4])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in ran.stderr
    return ran.returncode, ran.stdout + ran.stderr


def test_an_operators_day(tmp_path: Path) -> None:
    assert "tls_ca" in json.loads(run(tmp_path, "certs", "init", "--name", "edge.example", "--json")[1])
    token = EnrolToken.from_text(run(tmp_path, "enrol-token", "camera")[1])
    assert token.authority_der
    assert run(tmp_path, "certs", "issue", "car", "--out", "car")[0] == 0
    listed = json.loads(run(tmp_path, "certs", "list", "--json")[1])
    assert [(each["device_id"], each["state"]) for each in listed] == [("car", "good")]
    assert run(tmp_path, "certs", "revoke", "car")[1] == "1 certificate revoked\n"
    assert run(tmp_path, "certs", "list")[1].startswith("revoked  car")
    key = run(tmp_path, "keys", "add", "app")[1].strip()
    door = CredentialStore(tmp_path / "certs" / "access.sqlite")
    assert door.peer_of_key(key).name == "key:app"
    assert key not in run(tmp_path, "keys", "list")[1]
    assert run(tmp_path, "keys", "revoke", "app")[0] == 0
    assert run(tmp_path, "keys", "list")[1].startswith("revoked  app")
    asked = ("certs", "cluster", "--server", "a", "--cell", "pier", "--station", "pier=edge-1", "--json")
    made = json.loads(run(tmp_path, *asked)[1])
    assert made["settings"]["pier"]["cluster"] == "tls://a:4222"
    assert all((tmp_path / each).exists() for each in made["files"])
    assert (tmp_path / "certs" / "cluster" / "pier" / "station" / "nats.conf") in map(
        tmp_path.joinpath, made["files"]
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("certs", "revoke", "nobody"), "access"),
        (("enrol-token", "camera"), "ca.pem"),
        (("certs", "issue", "a/b", "--out", "x"), "device_id"),
        (("keys", "revoke", "nobody"), "access"),
    ],
)
def test_what_cannot_be_is_named(tmp_path: Path, arguments: tuple[str, ...], named: str) -> None:
    code, said = run(tmp_path, *arguments)
    assert code == 2
    assert named in said
