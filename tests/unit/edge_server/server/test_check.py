from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edge_server.server.check import app
from tests.authority import Pki, make_pki

SHIPPED = Path(__file__).resolve().parents[4] / "deploy" / "models" / "soundstage-small"


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return make_pki(tmp_path / "certs")


@pytest.fixture
def settings(tmp_path: Path, pki: Pki, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("TOKENLINK_SERVER_CONFIG", str(tmp_path / "server.toml"))
    values = {name: str(value) for name, value in pki.settings().items()}
    return {"model": str(SHIPPED), "grpc_port": 0, "rest_port": 0, **values}


def check(settings: dict[str, Any], tmp_path: Path) -> tuple[int, dict[str, dict[str, str]]]:
    file = tmp_path / "server.toml"
    file.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()))
    ran = CliRunner().invoke(app, ["--json", "--config", str(file)], catch_exceptions=False)
    worst: dict[str, dict[str, str]] = {}
    for finding in json.loads(ran.output):
        if finding["state"] == "failure" or finding["name"] not in worst:
            worst[finding["name"]] = finding
    return ran.exit_code, worst


def test_a_sound_configuration_passes(settings: dict[str, Any], tmp_path: Path) -> None:
    code, found = check(settings, tmp_path)
    assert code == 0, found
    assert {each["state"] for each in found.values()} == {"ok"}
    assert found["tls_cert"]["found"].endswith("does not expire")


def other_key(settings: dict[str, Any], pki: Pki) -> None:
    make_pki(pki.folder / "other")
    settings["tls_key"] = str(pki.folder / "other" / "server.key")


def other_authority(settings: dict[str, Any], pki: Pki) -> None:
    make_pki(pki.folder / "other")
    settings |= {"ca_key": str(pki.folder / "other" / "ca.key"), "enrol_port": 0}


def expired(settings: dict[str, Any], pki: Pki) -> None:
    pki.authority.make_server(pki.folder, ["localhost"], -1.0)


def no_certificate(settings: dict[str, Any], pki: Pki) -> None:
    (pki.folder / "server.pem").write_text("hello")


def lost_access_file(settings: dict[str, Any], pki: Pki) -> None:
    settings["access"] = str(pki.folder / "nothing")


def lost_model(settings: dict[str, Any], pki: Pki) -> None:
    settings["model"] = "/nowhere"


def altered_bundle(settings: dict[str, Any], pki: Pki) -> None:
    model = pki.folder / "model"
    shutil.copytree(SHIPPED / "bundle", model / "bundle")
    graph = model / "bundle" / "text.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    settings["model"] = str(model)


def cut_weights(settings: dict[str, Any], pki: Pki) -> None:
    model = pki.folder / "model"
    shutil.copytree(SHIPPED, model)
    weights = model / "link.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    settings["model"] = str(model)


def unknown_token_length(settings: dict[str, Any], pki: Pki) -> None:
    settings["rest_token_length"] = 7


def same_port(settings: dict[str, Any], pki: Pki) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        settings["grpc_port"] = settings["rest_port"] = free.getsockname()[1]


def contradiction(settings: dict[str, Any], pki: Pki) -> None:
    settings |= {"default_new_tokens": 100, "max_new_tokens": 10}


def half_a_certificate(settings: dict[str, Any], pki: Pki) -> None:
    del settings["tls_key"]


def everybody(settings: dict[str, Any], pki: Pki) -> None:
    for name in ("tls_cert", "tls_key", "tls_ca", "access"):
        del settings[name]
    settings["host"] = "0.0.0.0"


@pytest.mark.parametrize(
    ("fault", "setting"),
    [
        (other_key, "tls_cert"),
        (other_authority, "ca_key"),
        (expired, "tls_cert"),
        (no_certificate, "tls_cert"),
        (lost_access_file, "access"),
        (lost_model, "model"),
        (altered_bundle, "model"),
        (cut_weights, "model"),
        (unknown_token_length, "rest_token_length"),
        (same_port, "rest_port"),
        (contradiction, "default_new_tokens"),
        (half_a_certificate, "tls_cert"),
        (everybody, "host"),
    ],
)
def test_each_fault_is_found_with_its_line(
    settings: dict[str, Any], pki: Pki, tmp_path: Path, fault: Any, setting: str
) -> None:
    fault(settings, pki)
    code, found = check(settings, tmp_path)
    assert code == 1
    failures = {name for name, each in found.items() if each["state"] == "failure"}
    assert failures == {setting}, found
    line = list(settings).index(setting) + 1
    assert found[setting]["where"] == f"{tmp_path / 'server.toml'}:{line}"
    assert found[setting]["advice"]


def test_a_port_that_is_taken_is_found(settings: dict[str, Any], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings["grpc_port"] = taken.getsockname()[1]
        code, found = check(settings, tmp_path)
    assert (code, found["grpc_port"]["state"]) == (1, "failure")


def test_what_others_can_read_and_what_ends_soon_are_warnings(
    settings: dict[str, Any], pki: Pki, tmp_path: Path
) -> None:
    pki.authority.make_server(pki.folder, ["localhost"], 10.0)
    (pki.folder / "server.key").chmod(0o644)
    code, found = check(settings, tmp_path)
    assert code == 0
    assert (found["tls_cert"]["state"], found["tls_key"]["state"]) == ("warning", "warning")
    assert found["tls_key"]["advice"].startswith("chmod 600")


def test_a_cluster_is_looked_for_where_it_is_said_to_be(settings: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("nats", reason="nats-py (the extra cluster) is not installed")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        settings["cluster"] = f"nats://somebody:secret@127.0.0.1:{port}"
        code, found = check(settings, tmp_path)
        assert code == 1
        assert found["cluster"]["found"].startswith(f"nats://127.0.0.1:{port} cannot be reached")
        assert "server.toml" in found["cluster"]["where"]
        listening.listen()
        code, found = check(settings, tmp_path)
        assert (code, found["cluster"]["state"]) == (0, "ok")
        settings |= {"front_doors": 2, "ui": "on"}
        code, found = check(settings, tmp_path)
        assert (code, found["cluster"]["state"]) == (1, "ok")
        assert "a page is held by one process" in found["ui"]["found"]
